"""The call of a norm's kernel: where its maps are, and what they must be."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from gaslayers.lean.batch_norm import BatchNormCall

Moments: TypeAlias = Tensor | Sequence[Tensor]
"""Mean and inverse standard deviation of each channel: rows of one tensor, or two."""

LAYOUT = torch.channels_last


class Map(ctypes.Structure):
    """``struct map`` of norm.c."""

    _fields_ = (("values", ctypes.c_void_p), ("stride", ctypes.c_int64))


class Call(ctypes.Structure):
    """``struct norm_call`` of norm.c."""

    _fields_ = (
        *[(name, Map) for name in ("x", "kept", "y", "grad", "more", "passed")],
        *[(name, ctypes.c_void_p) for name in ("mean", "inverse_std", "variance")],
        *[(name, ctypes.c_void_p) for name in ("running_mean", "running_variance")],
        *[(name, ctypes.c_void_p) for name in ("weight", "bias", "grad_weight", "grad_bias")],
        ("packed", ctypes.c_void_p),
        *[(name, ctypes.c_int64) for name in ("pixels", "channels")],
        *[(name, ctypes.c_int64) for name in ("height", "width", "rows", "columns")],
        *[(name, ctypes.c_double) for name in ("eps", "momentum", "slope_before", "slope_behind")],
        *[(name, ctypes.c_void_p) for name in ("scale", "shift", "sums", "dots", "digits")],
    )


def suits(x: Tensor) -> bool:
    """Whether the kernels take this map, or slice of the channels of one, of shape (N, C, H, W).

    PyTorch adds in another order where it takes a map for a contiguous one, as a map of one channel
    or of one pixel an image, and where there are no more pixels than threads.
    """
    channels, plane = x.size(1), x.size(2) * x.size(3)
    return (
        channels > 1
        and plane > 1
        and x.size(0) * plane > torch.get_num_threads()
        and _pixel_stride(x) is not None
    )


def _pixel_stride(x: Tensor) -> int | None:
    """From one pixel to the next, where these lie at equal distances; None: they do not."""
    count, _, height, width = x.shape
    to_image, to_channel, to_row, to_pixel = x.stride()
    if width == 1:
        to_pixel = to_image if height == 1 else to_row
    is_even = (
        to_channel == 1
        and (height == 1 or to_row == width * to_pixel)
        and (count == 1 or to_image == height * width * to_pixel)
    )
    return to_pixel if is_even else None


def is_even(x: Tensor) -> bool:
    """Whether ``x`` is a map in channels_last, or a slice of the channels of one."""
    return _pixel_stride(x) is not None


def is_dense(x: Tensor) -> bool:
    """Whether ``x`` is a whole map in channels_last."""
    return _pixel_stride(x) == x.shape[1]


def map_of(x: Tensor) -> Map:
    """Where a map is; its pixels lie at equal distances."""
    channels = x.size(1)
    whole = channels > 1 and x.is_contiguous(memory_format=LAYOUT)  # the quick answer
    return Map(x.data_ptr(), channels if whole else _pixel_stride(x))


def begin(x: Tensor, moments: Moments | None) -> Call:
    """A call on ``x`` and its statistics."""
    channels = x.size(1)
    call = Call(x=map_of(x), pixels=x.numel() // channels, channels=channels)
    if isinstance(moments, Tensor):  # in place of as many calls of an operator as rows
        step = moments.stride(0) * moments.element_size()
        call.mean = moments.data_ptr()
        call.inverse_std = call.mean + step
    elif moments is not None:
        call.mean, call.inverse_std = map(address_of, moments)
    return call


def address_of(values: Tensor | None) -> int | None:
    """Where a line of values is, if there is one."""
    return None if values is None else values.data_ptr()


def add_batch_norm(call: Call, batch_norm: BatchNormCall) -> None:
    """Enter the arguments of a norm in training."""
    call.running_mean = address_of(batch_norm.running_mean)
    call.running_variance = address_of(batch_norm.running_var)
    call.weight, call.bias = address_of(batch_norm.weight), address_of(batch_norm.bias)
    call.eps, call.momentum = batch_norm.eps, batch_norm.momentum


Gradients: TypeAlias = tuple[Tensor | None, Tensor | None, Tensor | None]
"""Of what the norm reads, its weight and its bias, where they are wanted."""


def empty_gradients(x: Tensor, wanted: Sequence[bool]) -> Gradients:
    """Memory for the gradients that are wanted."""
    channels = x.shape[1]
    return (
        torch.empty_like(x, memory_format=LAYOUT) if wanted[0] else None,
        x.new_empty(channels) if wanted[1] else None,
        x.new_empty(channels) if wanted[2] else None,
    )


def add_gradients(call: Call, gradients: Gradients) -> None:
    """Enter where the gradients go."""
    grad_x, grad_weight, grad_bias = gradients
    if grad_x is not None:
        call.y = map_of(grad_x)
    call.grad_weight, call.grad_bias = address_of(grad_weight), address_of(grad_bias)
