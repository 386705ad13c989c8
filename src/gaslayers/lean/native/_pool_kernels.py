"""Activation and 2x2 max pooling in one pass over a map in channels last: loops for numba.

The innermost ones run along memory, and become vector instructions. Fast-math stays off: results
are those of PyTorch's operators, to the bit.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import numba
import numpy as np
import torch
from numba import carray, int32, uint8

from gaslayers.lean.native._threads import compile_call, own_share, real_types, to_pointer

_loop: Any = numba.njit(error_model="numpy", cache=True)
_part: Any = numba.njit(inline="always")

# What numba compiles for each dtype has no types of its own.
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

_SIGN = 128


@_part
def _activate(v, slope):
    return v if v > 0 else v * slope


@_part
def _larger(best, place, v, v_place):
    """Of equal values the first, of NaNs the last, as PyTorch's pooling has it."""
    is_larger = (v > best) | (v != v)
    return (v if is_larger else best), (v_place if is_larger else place)


@_part
def _pool_window(v0, v1, v2, v3, right, below, slope, sign):
    """A window's largest value, activated, and its code; ``right`` and ``below`` name places."""
    is_relu = slope == 0
    # A ReLU keeps order, and a minus infinity times zero would be none of its values.
    inner = 1 + slope * 0 if is_relu else slope
    best, place = _activate(v0, inner), int32(0)
    best, place = _larger(best, place, _activate(v1, inner), right)
    best, place = _larger(best, place, _activate(v2, inner), below)
    best, place = _larger(best, place, _activate(v3, inner), below + right)
    # PyTorch's ReLU lets the gradient of a NaN through, its leaky ReLU does not.
    lets_through = (best > 0) | (is_relu & (best != best))
    value = best if lets_through | (not is_relu) else 0 * slope
    return value, uint8(place + sign if lets_through else place)


@_loop
def _pool(x, pooled, codes, slope, signed):
    """A thread's share of (N, H, W, C) -> twice (N, H / 2, W / 2, C), rounded as these are."""
    count, height, width, channels = x.shape
    rows, columns = pooled.shape[1:3]
    sign = int32(_SIGN if signed else 0)
    for band in range(*own_share(count * rows)):
        image, row = band // rows, band % rows
        # A window over the edge reads its last row or column twice.
        down = 1 if 2 * row + 1 < height else 0
        for column in range(columns):
            across = 1 if 2 * column + 1 < width else 0
            upper_left = x[image, 2 * row, 2 * column]
            upper_right = x[image, 2 * row, 2 * column + across]
            lower_left = x[image, 2 * row + down, 2 * column]
            lower_right = x[image, 2 * row + down, 2 * column + across]
            to, code = pooled[image, row, column], codes[image, row, column]
            right, below = int32(across), int32(2 * down)
            for c in range(channels):
                to[c], code[c] = _pool_window(
                    upper_left[c], upper_right[c], lower_left[c], lower_right[c],
                    right, below, slope, sign,
                )  # fmt: skip


@_part
def _unpool_value(grad, code, place, slope, signed):
    """What the value at this place gets of its window's gradient."""
    zero = 0 * slope
    held_back = grad * slope if slope != 0 else zero
    passed = grad if (code >= _SIGN) | (not signed) else held_back
    return passed if code % _SIGN == place else zero


@_loop
def _unpool(grad, codes, spread, slope, signed):
    """A thread's share of twice (N, H / 2, W / 2, C) -> (N, H, W, C), written to ``spread``."""
    count, height, width, channels = spread.shape
    rows, columns = grad.shape[1:3]
    for line in range(*own_share(count * height)):
        image, y = line // height, line % height
        row = y // 2
        for x in range(width):
            column = x // 2
            to = spread[image, y, x]
            # One output a loop: of two the compiler makes no vector instructions.
            if row < rows and column < columns:
                place = int32(2 * (y % 2) + x % 2)
                of, code = grad[image, row, column], codes[image, row, column]
                for c in range(channels):
                    to[c] = _unpool_value(of[c], int32(code[c]), place, slope, signed)
            else:
                to[:] = 0


class Call(ctypes.Structure):
    """Arguments of `pool_address` and `unpool_address`: three addresses, sizes and the slope.

    To hand over arrays takes longer than to pool small ones.
    """

    _fields_ = (
        *[
            (name, ctypes.c_int64)
            for name in ("whole", "small", "codes", "N", "C", "H", "W", "rows", "columns")
        ],
        ("slope", ctypes.c_double),
    )


# Each function names its loop: what a closure holds is a part of its key in numba's cache, and a
# compiled loop would be another one in every process.


@functools.cache
def pool_address(dtype: torch.dtype) -> int:
    """Address of the function that pools ``whole`` to ``small`` and ``codes``."""
    real, array_dtype = real_types(dtype)

    def pool(pointer):
        call = carray(pointer, 1)[0]
        shape = (call.N, call.rows, call.columns, call.C)
        _pool(
            carray(to_pointer(call.whole), (call.N, call.H, call.W, call.C), array_dtype),
            carray(to_pointer(call.small), shape, array_dtype),
            carray(to_pointer(call.codes), shape, np.uint8),
            real(call.slope),
            call.slope != 1,
        )

    return compile_call(pool, Call)


@functools.cache
def unpool_address(dtype: torch.dtype) -> int:
    """Address of the function that spreads the gradient in ``small`` over ``whole``."""
    real, array_dtype = real_types(dtype)

    def unpool(pointer):
        call = carray(pointer, 1)[0]
        shape = (call.N, call.rows, call.columns, call.C)
        _unpool(
            carray(to_pointer(call.small), shape, array_dtype),
            carray(to_pointer(call.codes), shape, np.uint8),
            carray(to_pointer(call.whole), (call.N, call.H, call.W, call.C), array_dtype),
            real(call.slope),
            call.slope != 1,
        )

    return compile_call(unpool, Call)
