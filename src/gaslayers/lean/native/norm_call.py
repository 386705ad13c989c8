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


_MAPS = ("x", "kept", "y", "grad", "more", "passed")


class Call(ctypes.Structure):
    """``struct norm_call`` of norm.c, each ``struct map`` as two fields, which are set faster."""

    _fields_ = (
        *[
            field
            for name in _MAPS
            for field in ((name, ctypes.c_void_p), (f"{name}_stride", ctypes.c_int64))
        ],
        *[(name, ctypes.c_void_p) for name in ("mean", "inverse_std", "variance")],
        *[(name, ctypes.c_void_p) for name in ("running_mean", "running_variance")],
        *[(name, ctypes.c_void_p) for name in ("weight", "bias", "grad_weight", "grad_bias")],
        ("packed", ctypes.c_void_p),
        *[(name, ctypes.c_int64) for name in ("pixels", "channels")],
        *[(name, ctypes.c_int64) for name in ("height", "width", "rows", "columns")],
        *[(name, ctypes.c_double) for name in ("eps", "momentum", "slope_before", "slope_behind")],
        *[(name, ctypes.c_void_p) for name in ("scale", "shift", "sums", "dots", "digits")],
    )

    pixel_axis: int
    """The axis along which one pixel follows another, the same in all maps."""

    def place(self, x: Tensor) -> tuple[int, int]:
        """Where a map is, and how far apart its pixels are, which lie at equal distances."""
        return x.data_ptr(), x.stride()[self.pixel_axis]


def suits(x: Tensor) -> bool:
    """Whether the kernels take this map, or slice of the channels of one, of shape (N, C, H, W).

    PyTorch adds in another order where it takes a map for a contiguous one, as a map of one channel
    or of one pixel an image, and where there are no more pixels than threads.
    """
    count, channels, height, width = x.shape
    plane = height * width
    return (
        channels > 1
        and plane > 1
        and count * plane > torch.get_num_threads()
        and pixel_stride(x) is not None
    )


def pixel_stride(x: Tensor) -> int | None:
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
    return pixel_stride(x) is not None


def is_dense(x: Tensor) -> bool:
    """Whether ``x`` is a whole map in channels_last."""
    return pixel_stride(x) == x.shape[1]


def begin(x: Tensor, moments: Moments | None) -> Call:
    """A call on ``x``, which suits, and its statistics."""
    count, channels, height, width = x.shape
    call = Call(pixels=count * height * width, channels=channels)
    call.pixel_axis = 2 if width == 1 else 3
    call.x, call.x_stride = call.place(x)
    if isinstance(moments, Tensor):  # in place of as many calls of an operator as rows
        call.mean = mean = moments.data_ptr()
        call.inverse_std = mean + moments.stride(0) * moments.element_size()
    elif moments is not None:
        call.mean, call.inverse_std = map(address_of, moments)
    return call


def address_of(values: Tensor | None) -> int | None:
    """Where a line of values is, if there is one."""
    return None if values is None else values.data_ptr()


def row_behind(call: Call) -> int:
    """Where the row of the moments' tensor is that follows the inverse standard deviations."""
    return 2 * call.inverse_std - call.mean


def add_running(call: Call, batch_norm: BatchNormCall) -> None:
    """Enter the running statistics of a norm in training, and how fast they move."""
    call.running_mean = address_of(batch_norm.running_mean)
    call.running_variance = address_of(batch_norm.running_var)
    call.momentum = batch_norm.momentum


def add_batch_norm(call: Call, batch_norm: BatchNormCall) -> None:
    """Enter the arguments of a norm in training."""
    add_running(call, batch_norm)
    call.weight, call.bias = address_of(batch_norm.weight), address_of(batch_norm.bias)
    call.eps = batch_norm.eps


Gradients: TypeAlias = tuple[Tensor | None, Tensor | None, Tensor | None]
"""Of what the norm reads, its weight and its bias, where they are wanted."""


def empty_gradients(x: Tensor, wanted: Sequence[bool], over: Tensor | None = None) -> Gradients:
    """Memory for the gradients that are wanted, the first in that of ``over`` if there is any."""
    channels = x.size(1)
    if over is None and wanted[0]:
        over = torch.empty_like(x, memory_format=LAYOUT)
    return (
        over if wanted[0] else None,
        x.new_empty(channels) if wanted[1] else None,
        x.new_empty(channels) if wanted[2] else None,
    )


def add_gradients(call: Call, gradients: Gradients) -> None:
    """Enter where the gradients go."""
    grad_x, grad_weight, grad_bias = gradients
    if grad_x is not None:
        call.y, call.y_stride = call.place(grad_x)
    call.grad_weight, call.grad_bias = address_of(grad_weight), address_of(grad_bias)
