"""What the operators of PyTorch really allocate, where their fakes allocate otherwise.

Found by running both on the samples of PyTorch's own tests and comparing storages and strides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format

from gaslayers.accounting._elementwise import elementwise, with_strides

_aten = torch.ops.aten
_UNREDUCED = 0  # what reduction="none" is to an operator
_LOW = (torch.bfloat16, torch.float16)


def as_allocated(func: Any, args: tuple[Any, ...], out: Any) -> Any:
    """The output of a fake operator with the storage, strides and types of the real one's.

    Args:
        func: The operator.
        args: Its arguments, which are fakes; defaults at their end may be missing.
        out: What its fake returned.
    """
    rule = _RULES.get(func.overloadpacket)
    return with_strides(func, args, out) if rule is None else rule(args, out)


def _enlarge(tensor: Tensor, elements: int) -> Tensor:
    """Have the tensor's storage hold at least so many of its elements."""
    storage, size = tensor.untyped_storage(), elements * tensor.dtype.itemsize
    if storage.nbytes() < size:
        storage.resize_(size)
    return tensor


def _loss(place: int) -> Callable[[tuple[Any, ...], Tensor], Tensor]:
    """A loss that writes all elements and returns their memory with the sum or mean in it.

    Args:
        place: The argument that says how to reduce.
    """

    def rule(args: tuple[Any, ...], out: Tensor) -> Tensor:
        if len(args) > place and args[place] == _UNREDUCED:
            return elementwise(args[:2], out)
        return _enlarge(out, args[0].numel())

    return rule


def _columns(args: tuple[Any, ...], out: Tensor) -> Tensor:
    """Made as large as what it reads, then resized."""
    return _enlarge(out, args[0].numel())


def _bags(_args: tuple[Any, ...], out: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The bag of each index is made by one longer, then resized."""
    if out[1].numel():
        _enlarge(out[1], out[1].numel() + 1)
    return out


def _of_type(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor if tensor.dtype == dtype else torch.empty_like(tensor, dtype=dtype)


def _in_format(like: Tensor, out: Tensor) -> Tensor:
    """Dense in the memory format of another tensor of its rank, on a CPU."""
    chosen = suggest_memory_format(like)
    if out.device.type != "cpu" or (1 not in out.shape and out.is_contiguous(memory_format=chosen)):
        return out
    return torch.empty_like(out, memory_format=chosen)


def _with_statistics(
    args: tuple[Any, ...], out: tuple[Tensor, ...], first: int
) -> tuple[Tensor, ...]:
    """A norm of low precision with parameters of single precision has statistics of these.

    Args:
        args: The norm's.
        out: The map and the statistics.
        first: The first argument that is a parameter or a statistic.
    """
    others = [arg for arg in args[first:] if isinstance(arg, Tensor)]
    if args[0].device.type != "cpu" or args[0].dtype not in _LOW or not others:
        return out
    return (out[0], *(_of_type(statistic, others[0].dtype) for statistic in out[1:]))


def _layer_norm(args: tuple[Any, ...], out: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return _with_statistics(args, out, 2)


def _norm(args: tuple[Any, ...], out: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return _with_statistics(args, (_in_format(args[0], out[0]), *out[1:]), 1)


def _batch_norm_backward(args: tuple[Any, ...], out: tuple[Any, ...]) -> tuple[Any, ...]:
    return (None if out[0] is None else _in_format(args[1], out[0]), *out[1:])


def _group_norm_backward(args: tuple[Any, ...], out: tuple[Any, ...]) -> tuple[Any, ...]:
    x = args[1]
    return (None if out[0] is None else _in_format(x, _of_type(out[0], x.dtype)), *out[1:])


def _as_input(args: tuple[Any, ...], out: Tensor) -> Tensor:
    return _in_format(args[0], out)


def _padding_backward(args: tuple[Any, ...], out: Tensor) -> Tensor:
    return _in_format(args[1], out)


def _contiguous(_args: tuple[Any, ...], out: Any) -> Any:
    if isinstance(out, tuple):
        return tuple(_contiguous(_args, tensor) for tensor in out)
    if out.is_contiguous() and 1 not in out.shape:
        return out
    return torch.empty_like(out, memory_format=torch.contiguous_format)


_RULES: dict[Any, Callable[[tuple[Any, ...], Any], Any]] = {
    _aten.mse_loss: _loss(2),
    _aten.smooth_l1_loss: _loss(2),
    _aten.soft_margin_loss: _loss(2),
    _aten.binary_cross_entropy: _loss(3),
    _aten.im2col: _columns,
    _aten.col2im: _columns,
    _aten._embedding_bag: _bags,
    _aten.native_batch_norm: _norm,
    _aten.native_batch_norm_backward: _batch_norm_backward,
    _aten.native_layer_norm: _layer_norm,
    _aten.native_group_norm: _norm,
    _aten.native_group_norm_backward: _group_norm_backward,
    _aten.reflection_pad2d_backward: _padding_backward,
    _aten.replication_pad2d_backward: _padding_backward,
    _aten.channel_shuffle: _as_input,
    _aten.glu_backward: _contiguous,
    _aten.huber_loss_backward: _contiguous,
    _aten.log_sigmoid_forward: _contiguous,
    _aten._log_softmax_backward_data: _contiguous,
    _aten.mse_loss_backward: _contiguous,
    _aten.smooth_l1_loss_backward: _contiguous,
}
