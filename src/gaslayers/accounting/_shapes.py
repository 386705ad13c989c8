"""Operators on fake tensors, the commonest of them without detours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    FakeTensor,
    FakeTensorMode,
    in_kernel_invocation_manager,
)

_aten = torch.ops.aten
_DEVICE = torch.ops.prim.device.default
# Their kernels for the meta device are the real ones' own shape functions. The mode would look
# each call up by a long key, and compute those it has not met in Python: several times slower.
_DIRECT = frozenset(
    {
        _aten.add.Tensor,
        _aten.cat.default,
        _aten.detach.default,
        _aten.expand.default,
        _aten.mul.Tensor,
        _aten.relu.default,
        _aten.relu_.default,
        _aten.slice.Tensor,
        _aten.t.default,
        _aten.threshold_backward.default,
        _aten.view.default,
    }
)


def _batch_norm(x: Tensor, *_others: Any) -> tuple[Tensor | None, ...]:
    """Output, mean and inverse standard deviation."""
    return torch.empty_like(x), x.new_empty(x.shape[1]), x.new_empty(x.shape[1])


def _batch_norm_backward(
    _grad: Tensor, x: Tensor, weight: Tensor | None, *others: Any
) -> tuple[Tensor | None, ...]:
    """The gradients of input, weight and bias, those that are asked for."""
    wants_x, *wants = others[-1]
    grad = torch.empty_like(x) if wants_x else None
    like = x if weight is None else weight
    return grad, *(like.new_empty(x.shape[1]) if is_wanted else None for is_wanted in wants)


# The mode computes these by a dozen operators each, in Python, and has the backward pass make a
# gradient of the input that nobody asked for.
_BATCH_NORMS: dict[Any, Callable[..., tuple[Tensor | None, ...]]] = {
    _aten.native_batch_norm.default: _batch_norm,
    _aten.native_batch_norm_backward.default: _batch_norm_backward,
}


def leaves(values: Any) -> Iterator[Tensor]:
    """The tensors among an operator's arguments or results, which nest in lists alone."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, tuple | list):
        for value in values:
            yield from leaves(value)


def compute(mode: FakeTensorMode, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Compute an operator on fakes of this mode, which is active."""
    if func is _DEVICE and isinstance(args[0], FakeTensor):  # more than half of all calls
        return args[0].fake_device
    if kwargs or not (func in _DIRECT or func in _BATCH_NORMS):
        return func(*args, **kwargs)
    tensors = list(leaves(args))
    devices = {tensor.fake_device for tensor in tensors if type(tensor) is FakeTensor}
    if len(devices) != 1 or not all(_is_plain(tensor) for tensor in tensors):
        return func(*args)
    if func in _DIRECT:
        with in_kernel_invocation_manager(mode):
            return _as_fake(mode, func(*args), *devices)
    if func is _aten.native_batch_norm.default and not _reads_dense_batch(args, tensors):
        return func(*args)  # what is kept for the backward pass depends on the device
    with in_kernel_invocation_manager(mode):
        outs = _BATCH_NORMS[func](*args)
    return tuple(None if out is None else _as_fake(mode, out, *devices) for out in outs)


def _as_fake(mode: FakeTensorMode, out: Tensor, device: torch.device) -> Tensor:
    return out if type(out) is FakeTensor else FakeTensor(mode, out, device)


def _is_plain(tensor: Tensor) -> bool:
    """Whether it is a fake whose value nobody follows."""
    return type(tensor) is FakeTensor and tensor.constant is None


def _reads_dense_batch(args: tuple[Any, ...], tensors: list[Tensor]) -> bool:
    """Whether a batch norm reads the batch's statistics, in one precision and from dense memory."""
    x, training = args[0], args[5]
    is_dense = x.is_contiguous() or (
        x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    )
    single = {tensor.dtype for tensor in tensors} in ({torch.float32}, {torch.float64})
    return bool(training) and single and is_dense
