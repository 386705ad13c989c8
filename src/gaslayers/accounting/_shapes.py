"""Operators on fake tensors, the commonest of them without detours."""

from __future__ import annotations

from collections.abc import Iterator
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
    if func in _DIRECT and not kwargs:
        tensors = list(leaves(args))
        devices = {tensor.fake_device for tensor in tensors if type(tensor) is FakeTensor}
        if len(devices) == 1 and all(_is_plain(tensor) for tensor in tensors):
            with in_kernel_invocation_manager(mode):
                out = func(*args)
            return out if type(out) is FakeTensor else FakeTensor(mode, out, *devices)
    return func(*args, **kwargs)


def _is_plain(tensor: Tensor) -> bool:
    """Whether it is a fake whose value nobody follows."""
    return type(tensor) is FakeTensor and tensor.constant is None
