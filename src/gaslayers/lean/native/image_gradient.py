"""The gradient of an image that a convolution reads, by a kernel of our own.

An image has few channels, and a G step ends with its gradient. PyTorch's kernel holds channels in
its vectors, which those of an image hardly fill.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from gaslayers.lean.native import availability
from gaslayers.lean.native.kernels import kernels
from gaslayers.lean.native.norm_call import LAYOUT, is_even, pixel_stride

_MAX_CHANNELS = 4
_MIN_CELLS = 4
"""Of a convolution's kernel; with fewer, PyTorch's is as fast."""

_KINDS = {Tensor, nn.Parameter, FakeTensor}

_STRIDES = ctypes.c_int64 * 4


class _Call(ctypes.Structure):
    """``struct image_call`` of image_gradient.c."""

    _fields_ = (
        ("grad", ctypes.c_void_p),
        ("grad_stride", ctypes.c_int64),
        ("packed", ctypes.c_void_p),
        *[(name, ctypes.c_int64) for name in ("windows_down", "windows_across")],
        ("slope", ctypes.c_double),
        ("weight", ctypes.c_void_p),
        ("weight_strides", _STRIDES),
        ("image", ctypes.c_void_p),
        *[(name, ctypes.c_int64) for name in ("count", "channels", "height", "width")],
        *[(name, ctypes.c_int64) for name in ("out_channels", "rows", "columns")],
        *[(name, ctypes.c_int64) for name in ("kernel_rows", "kernel_columns")],
        *[(name, ctypes.c_int64) for name in ("padding_rows", "padding_columns")],
        *[(name, ctypes.c_void_p) for name in ("taps", "lines")],
        ("line_width", ctypes.c_int64),
        *[(name, ctypes.c_void_p) for name in ("spread", "digits")],
    )


def suits(
    grad: Tensor,
    weight: Tensor,
    shape: Sequence[int],
    geometry: tuple[tuple[int, int], tuple[int, int], tuple[int, int], int],
) -> bool:
    """Whether the kernel runs, and faster than PyTorch's.

    Args:
        grad: Of the convolution's output.
        weight: The convolution's.
        shape: Of the image.
        geometry: The convolution's stride, padding, dilation and groups.
    """
    stride, padding, dilation, groups = geometry
    height, width = weight.shape[2:]
    return (
        0 < shape[1] <= _MAX_CHANNELS
        and height * width >= _MIN_CELLS
        and stride == dilation == (1, 1)
        and groups == 1
        and padding[0] < height
        and padding[1] < width
        and grad.numel() > 0
        and grad.dtype == weight.dtype == torch.float32
        and type(weight) in _KINDS
        and availability.takes(grad)
        and is_even(grad)
    )


class Pooled(NamedTuple):
    """What stands between a convolution and a gradient: an activation and 2x2 max pooling.

    Args:
        packed: The codes that `gaslayers.lean.native.pool` packed, for channels_last.
        slope: The activation's slope below zero.
        rows: Height of the convolution's output.
        columns: Width of it.
    """

    packed: Tensor
    slope: float
    rows: int
    columns: int


def run(
    grad: Tensor,
    weight: Tensor,
    shape: Sequence[int],
    padding: tuple[int, int],
    pooled: Pooled | None = None,
) -> Tensor:
    """The gradient of an image; only where `suits` says so.

    Args:
        grad: (N, out_channels, H', W'), or of what this was pooled to.
        weight: (out_channels, C, k, l).
        shape: Of the image, (N, C, H, W).
        padding: Zeros at each end of height and width.
        pooled: What ``grad`` is behind, if anything.

    Shape: ``shape``, in channels_last.
    """
    image = torch.empty(tuple(shape), dtype=grad.dtype, device=grad.device, memory_format=LAYOUT)
    if type(image) is Tensor:  # and not a fake one, which has no memory
        strides = _STRIDES(*weight.stride())
        _, channels, *sides = grad.shape
        packed, windows, slope = None, [0, 0], 1.0
        if pooled is not None:
            packed, windows, slope = pooled.packed.data_ptr(), sides, pooled.slope
            sides = [pooled.rows, pooled.columns]
        call = _Call(
            *(grad.data_ptr(), pixel_stride(grad), packed, *windows, slope),
            *(weight.data_ptr(), strides, image.data_ptr(), *shape),
            *(channels, *sides, *weight.shape[2:], *padding),
        )
        kernels().run("image_gradient", grad.dtype, call)
    return image
