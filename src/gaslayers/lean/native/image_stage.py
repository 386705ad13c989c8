"""A convolution of an image, activation and 2x2 max pooling by one kernel of our own."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from gaslayers.lean.native import availability, pool
from gaslayers.lean.native.kernels import kernels
from gaslayers.lean.native.norm_call import LAYOUT, address_of

MAX_CHANNELS = 4
_MIN_CELLS = 4
"""Of the convolution's kernel.

PyTorch's own kernel for a 1x1 depends on the batch, of which a smaller trial does not tell.
"""

_KINDS = {Tensor, nn.Parameter, FakeTensor}

_STRIDES = ctypes.c_int64 * 4


class _Call(ctypes.Structure):
    """``struct stage_call`` of image_stage.c."""

    _fields_ = (
        *[(name, ctypes.c_void_p) for name in ("image", "weight")],
        ("weight_strides", _STRIDES),
        *[(name, ctypes.c_void_p) for name in ("bias", "pooled", "packed")],
        *[(name, ctypes.c_int64) for name in ("count", "channels", "height", "width")],
        *[(name, ctypes.c_int64) for name in ("out_channels", "rows", "columns")],
        *[(name, ctypes.c_int64) for name in ("kernel_rows", "kernel_columns")],
        *[(name, ctypes.c_int64) for name in ("padding_rows", "padding_columns")],
        ("columns_first", ctypes.c_int64),
        ("slope", ctypes.c_double),
        ("cells", ctypes.c_int64),
        *[(name, ctypes.c_void_p) for name in ("cell_place", "taps", "image_lines", "map_lines")],
        *[(name, ctypes.c_int64) for name in ("tap", "image_line", "map_line")],
        ("digits", ctypes.c_void_p),
    )


def map_shape(x: Tensor, weight: Tensor, padding: tuple[int, int]) -> torch.Size:
    """Of what the convolution makes: (N, out_channels, H', W')."""
    sides = (
        size + 2 * zeros - cells + 1
        for size, zeros, cells in zip(x.shape[2:], padding, weight.shape[2:], strict=True)
    )
    return torch.Size((x.shape[0], weight.shape[0], *sides))


def suits(x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int]) -> bool:
    """Whether the kernel runs on this image, (N, C, H, W), and these parameters."""
    own = (weight,) if bias is None else (weight, bias)
    shape = map_shape(x, weight, padding)
    return (
        0 < x.shape[1] == weight.shape[1] <= MAX_CHANNELS
        and weight.shape[2] * weight.shape[3] >= _MIN_CELLS
        and x.shape[0] > 0
        and min(shape[2:]) >= pool.WINDOW
        and padding[0] < weight.shape[2]
        and padding[1] < weight.shape[3]
        and all(type(tensor) in _KINDS and tensor.dtype == torch.float32 for tensor in own)
        and (bias is None or bias.is_contiguous())
        and x.dtype == torch.float32
        and availability.takes(x)
        and x.is_contiguous(memory_format=LAYOUT)
    )


def run(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    padding: tuple[int, int],
    slope: float,
    *,
    ceil_mode: bool,
    columns_first: bool,
) -> tuple[Tensor, Tensor]:
    """The pooled map and its packed codes; only where `suits` says so.

    Args:
        x: (N, C, H, W), in channels_last.
        weight: (out_channels, C, k, l).
        bias: (out_channels,), or None.
        padding: Zeros at each end of height and width.
        slope: Of the activation.
        ceil_mode: Whether a last window may reach over the edge.
        columns_first: Whether sums run over the kernel's columns, and within one over its rows.

    Shape: (N, out_channels, H' / 2, W' / 2), rounded up in ceil mode; and a line of uint8.
    """
    shape = map_shape(x, weight, padding)
    pooled, packed = pool.empty_pooled(shape, x, slope, LAYOUT, ceil_mode=ceil_mode)
    if type(pooled) is Tensor:  # and not a fake one, which has no memory
        call = _Call(
            *(x.data_ptr(), weight.data_ptr(), _STRIDES(*weight.stride()), address_of(bias)),
            *(pooled.data_ptr(), packed.data_ptr()),
            *(*x.shape, weight.shape[0], *pooled.shape[2:], *weight.shape[2:], *padding),
            *(columns_first, slope),
        )
        kernels().run("image_stage", x.dtype, call)
    return pooled, packed
