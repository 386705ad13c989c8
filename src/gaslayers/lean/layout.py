"""Which memory format a tensor has, and a convolution works in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from gaslayers.lean.execution import is_batch


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
    """The memory format that PyTorch's operators take ``x``, (N, C, H, W), for.

    They read it out of the order of the strides, so that of slices and crops too.
    """
    if x.size(1) > 1 and x.is_contiguous() and x.size(2) * x.size(3) > 1:  # the quick answer
        return torch.contiguous_format
    is_last = _are_channels_last(x.shape, x.stride())
    return torch.channels_last if is_last else torch.contiguous_format


def _are_channels_last(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether the strides grow from channels over columns and rows to images.

    The rule of PyTorch's ``is_channels_last_strides_2d``, which Python cannot ask.
    """
    if strides[1] == 0:
        return False
    least = 0
    for axis in (1, 3, 2, 0):
        if shape[axis] == 0 or strides[axis] < least:
            return False
        if axis == 0 and least == strides[1]:  # a single value an image: it may be either
            return False
        least = strides[axis] * max(shape[axis], 1)
    return True


def dense_strides(x: Tensor) -> tuple[int, ...]:
    """The strides of a tensor laid out like ``x`` that fills its memory.

    They tell more than `layout_of`: an image of a single channel has the same memory in both
    formats, and still a convolution reads its own format out of the strides.
    """
    if x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last):
        return x.stride()  # what the other question would answer, too, but later
    return torch.empty_like(x, device="meta").stride()


def in_told_strides(x: Tensor) -> Tensor:
    """The same memory, with the strides that its memory format has also along axes of one.

    A single image of rows, columns, channels that is turned to (1, C, H, W) has others. PyTorch's
    backward pass of batch norm asks in two ways whether a map is in channels last, which then give
    two answers, and computes wrong gradients.
    """
    if 1 not in x.shape or x.dim() != 4 or is_batch(x):
        return x
    _, channels, height, width = x.shape
    told = {
        torch.contiguous_format: (channels * height * width, height * width, width, 1),
        torch.channels_last: (channels * height * width, 1, width * channels, channels),
    }
    if x.stride() in told.values():
        return x
    for layout, strides in told.items():
        if x.is_contiguous(memory_format=layout):
            return x.as_strided(x.shape, strides)
    return x
