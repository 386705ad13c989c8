"""What an autograd function of several convolutions computes in, autocast included."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from gaslayers.lean.execution import takes_input
from gaslayers.lean.modules import are_plain


def has_autocast(device: torch.device) -> bool:
    """Whether autocast is on for this kind of device."""
    if not torch._C._is_any_autocast_enabled():  # the quick answer
        return False
    return torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Leave all casts to the function: autocast's cache would hand weights on without a graph."""
    if has_autocast(device):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def convolution_dtype(x: Tensor, tensors: Sequence[Tensor]) -> torch.dtype | None:
    """What the convolutions compute in; None: another mix than the lean path knows."""
    dtypes = {tensor.dtype for tensor in tensors}
    if dtypes == {torch.float32} and has_autocast(x.device):
        low = torch.get_autocast_dtype(x.device.type)
        return low if x.dtype in (torch.float32, low) else None
    if x.dtype in (torch.float32, torch.float64) and dtypes == {x.dtype}:
        return x.dtype
    return None


def cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """As `torch.Tensor.to`, which takes its time also where there is nothing to do."""
    return x if x.dtype == dtype else x.to(dtype)


def suits(x: Tensor, tensors: Sequence[Tensor]) -> bool:
    """Whether such a function takes this input; what it does not, the plain composition does.

    An empty batch and a single value a channel are PyTorch's to handle or to refuse, and so are
    tensors on different devices and precisions below float32 outside autocast.
    """
    same_device = all(tensor.device == x.device for tensor in tensors)
    several = x.numel() > x.shape[1]
    plain = takes_input(x) and are_plain(tensors)
    return plain and several and same_device and convolution_dtype(x, tensors) is not None
