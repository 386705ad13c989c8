"""Example inputs, and fakes of them with a batch of any size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

from gaslayers._checks import bad_type, bad_value
from gaslayers.accounting._sandbox import Call


def check_dtype(owner: str, argument: str, value: Any) -> None:
    """Raise unless ``value`` is a dtype."""
    if not isinstance(value, torch.dtype):
        raise bad_type(owner, argument, "be a torch.dtype", value)


def check_device(owner: str, argument: str, value: Any) -> torch.device:
    """Return ``value`` as a device, or raise where it is none."""
    if not isinstance(value, str | torch.device):
        raise bad_type(owner, argument, "be a torch.device or the name of one", value)
    try:
        return torch.device(value)
    except RuntimeError as error:
        raise bad_value(owner, argument, "be the name of a device", value) from error


def batch_size_of(owner: str, argument: str, tensors: list[Tensor]) -> int:
    """The size of the first axis of the first example that has axes."""
    sizes = [tensor.shape[0] for tensor in tensors if tensor.dim()]
    if not sizes:
        raise bad_value(owner, argument, "hold a tensor whose first axis is the batch", tensors)
    for tensor in tensors:
        if tensor.dim() and not tensor.numel():
            raise bad_value(owner, argument, "hold no empty tensor", tensor)
    return sizes[0]


def with_batch_of(fakes: FakeTensorMode, twin: Call, *, example: int, size: int) -> Call:
    """The call with another batch in every tensor whose first axis is as long as the example's."""
    made: dict[int, Tensor] = {}  # one tensor in two places stays one

    def resized(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or not leaf.dim() or leaf.shape[0] != example:
            return leaf
        if id(leaf) not in made:
            made[id(leaf)] = _resized(fakes, leaf, size)
        return made[id(leaf)]

    args, kwargs = pytree.tree_map(resized, (twin.args, twin.kwargs))
    return Call(twin.module, args, kwargs)


def _resized(fakes: FakeTensorMode, x: Tensor, size: int) -> Tensor:
    """A fake like this one, strides and all, with another size of the first axis."""
    shape, strides = (size, *x.shape[1:]), list(x.stride())
    sample = 1 + sum((n - 1) * step for n, step in zip(shape[1:], strides[1:], strict=True))
    if strides[0] >= sample or x.shape[0] == 1 or strides[0] == 0:
        strides[0] = max(strides[0], sample)
        length = size * strides[0]
    else:  # the batch is no outermost axis: the same order of axes, without gaps
        length = 1
        for axis in sorted(range(x.dim()), key=x.stride):
            strides[axis] = length
            length *= shape[axis]
    with fakes:
        whole = torch.empty(length, dtype=x.dtype, device=x.device)
        return whole.as_strided(shape, strides).requires_grad_(x.requires_grad)
