"""Which memory format a tensor has, and a convolution works in."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def channels_vary_fastest(x: Tensor) -> bool:
    """Whether neighbours in memory are channels; told by the strides, so of 1x1 kernels too.

    Both formats of a 1x1 kernel have the same memory, and still a convolution reads its own format
    out of the strides.
    """
    return x.stride(1) < x.stride(3)


def convolution_layout(tensors: Iterable[Tensor]) -> torch.memory_format:
    """What a convolution of these tensors works in: channels last if any of them is."""
    if any(map(channels_vary_fastest, tensors)):
        return torch.channels_last
    return torch.contiguous_format


def layout_of(x: Tensor) -> torch.memory_format:
    """Channels last where ``x`` is that and nothing else, else contiguous."""
    if x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous():
        return torch.channels_last
    return torch.contiguous_format


def dense_strides(x: Tensor) -> tuple[int, ...]:
    """The strides of a tensor laid out like ``x`` that fills its memory.

    They tell more than `layout_of`: an image of a single channel has the same memory in both
    formats, and still a convolution reads its own format out of the strides.
    """
    if x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last):
        return x.stride()  # what the other question would answer, too, but later
    return torch.empty_like(x, device="meta").stride()
