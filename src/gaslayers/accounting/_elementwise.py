"""The strides that elementwise operators give to their results, by TensorIterator's rules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch._prims_common import is_non_overlapping_and_dense_or_false

from gaslayers.accounting._shapes import leaves

_aten = torch.ops.aten
_Sizes: TypeAlias = Sequence[int]

# A number given to these becomes a tensor without dimensions, whose shape is another one; given
# to all others, as a slope or a bound, it is no operand.
_NUMBERS_ARE_OPERANDS = frozenset(
    {
        *(_aten.add, _aten.sub, _aten.rsub, _aten.mul, _aten.div, _aten.fmod, _aten.remainder),
        *(_aten.lt, _aten.le, _aten.gt, _aten.ge, _aten.eq, _aten.ne, _aten.where, _aten.xlogy),
        *(_aten.bitwise_and, _aten.bitwise_or, _aten.bitwise_xor, _aten.floor_divide),
    }
)


# Copies first, so that what they were made of alone decides.
_COPIES = (_aten.clone, _aten.masked_fill)


def with_strides(func: Any, args: tuple[Any, ...], out: Any) -> Any:
    """The output of an elementwise operator's fake with the strides of the real one's.

    Fakes find some of them by rules of their own: they keep the strides of a dimension of size 1,
    or let an expanded operand decide.
    """
    if not isinstance(out, Tensor) or torch.Tag.pointwise not in func.tags or out.dim() < 2:
        return out
    packet = func.overloadpacket
    if packet in _COPIES:
        return out
    numbers = packet in _NUMBERS_ARE_OPERANDS and not all(isinstance(a, Tensor) for a in args[:2])
    return elementwise(args, out, has_numbers=numbers)


def elementwise(args: tuple[Any, ...], out: Tensor, *, has_numbers: bool = False) -> Tensor:
    """The output with the strides that follow from the operands'.

    Args:
        args: The operator's arguments.
        out: What its fake returned.
        has_numbers: Whether a number is an operand, too.
    """
    tensors = list(leaves(args))
    operands = [tensor for tensor in tensors if tensor.dim() > 0]
    if not operands or not out.numel() or any(out is operand for operand in operands):
        return out
    is_uniform = not has_numbers and len(operands) == len(tensors)
    strides = _strides(out.shape, operands, is_uniform=is_uniform)
    return out if out.stride() == strides else out.as_strided(out.shape, strides)


def _strides(shape: _Sizes, operands: list[Tensor], *, is_uniform: bool) -> tuple[int, ...]:
    if is_uniform and all(operand.shape == shape for operand in operands):
        if all(operand.is_contiguous() for operand in operands):
            return _dense(shape, range(len(shape) - 1, -1, -1))
        # Of channels last in 3-D it does not ask: equal strides, below, are kept as they are.
        if len(shape) == 4 and all(
            operand.is_contiguous(memory_format=torch.channels_last) for operand in operands
        ):
            return _dense(shape, [1, 3, 2, 0])
        strides = {operand.stride() for operand in operands}
        if len(strides) == 1 and is_non_overlapping_and_dense_or_false(operands[0]):
            return operands[0].stride()
    return _dense(shape, _order(shape, [_broadcast(operand, shape) for operand in operands]))


def _dense(shape: _Sizes, order: Iterable[int]) -> tuple[int, ...]:
    """The strides of a tensor without gaps whose dimensions are ordered from the fastest."""
    strides, step = [0] * len(shape), 1
    for dim in order:
        strides[dim] = step
        step *= shape[dim]
    return tuple(strides)


def _broadcast(operand: Tensor, shape: _Sizes) -> list[int]:
    """The operand's strides in the shape of the result; 0 where it is broadcast."""
    missing = len(shape) - operand.dim()
    pairs = zip(operand.shape, operand.stride(), shape[missing:], strict=True)
    return [0] * missing + [0 if size == 1 != wide else step for size, step, wide in pairs]


def _order(shape: _Sizes, strides: list[list[int]]) -> list[int]:
    """The dimensions from the fastest, as the first operand that tells two apart has them."""
    order = list(range(len(shape) - 1, -1, -1))
    for start in range(1, len(order)):
        place = start
        for other in range(start - 1, -1, -1):
            verdict = _compare(order[other], order[place], shape, strides)
            if verdict < 0:
                break
            if verdict > 0:
                order[other], order[place] = order[place], order[other]
                place = other
    return order


def _compare(first: int, second: int, shape: _Sizes, strides: list[list[int]]) -> int:
    """Positive where the first dimension has to come after the second one."""
    for steps in strides:
        if steps[first] and steps[second]:
            if steps[first] != steps[second]:
                return steps[first] - steps[second]
            if shape[first] > shape[second]:
                return 1
    return 0
