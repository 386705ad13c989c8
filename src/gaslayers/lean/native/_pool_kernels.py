"""Activation and 2x2 max pooling in one pass over a map in channels last: loops for numba.

The innermost ones run along memory, and become vector instructions. Fast-math stays off: results
are those of PyTorch's operators, to the bit.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numba
import torch
from numba import carray, int32, types, uint8

_loop: Any = numba.njit(parallel=True, nogil=True, cache=True, error_model="numpy")
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
    """(N, H, W, C) -> twice (N, H / 2, W / 2, C), rounded up or down as these are."""
    count, height, width, channels = x.shape
    rows, columns = pooled.shape[1:3]
    sign = int32(_SIGN if signed else 0)
    for band in numba.prange(count * rows):
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
    """Twice (N, H / 2, W / 2, C) -> (N, H, W, C), written to ``spread``."""
    count, height, width, channels = spread.shape
    rows, columns = grad.shape[1:3]
    for line in numba.prange(count * height):
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


_TYPES = {torch.float32: types.float32, torch.float64: types.float64}
_owners: list[Any] = []  # of the code that addresses lead to
_SIZES = [types.int64] * 6  # of both maps: count, height, width, channels, rows, columns


@functools.cache
def pool_function(dtype: torch.dtype) -> Callable[..., None]:
    """``pool(x, pooled, codes, count, height, width, channels, rows, columns, slope)``.

    The first three are addresses: to hand over an array takes longer than to pool a small one.
    """
    real = _TYPES[dtype]

    def pool(x, pooled, codes, count, height, width, channels, rows, columns, slope):
        small = (count, rows, columns, channels)
        whole = carray(x, (count, height, width, channels))
        _pool(whole, carray(pooled, small), carray(codes, small), real(slope), slope != 1)

    return _compile(pool, real, real, types.uint8)


@functools.cache
def unpool_function(dtype: torch.dtype) -> Callable[..., None]:
    """``unpool(grad, codes, spread, ...)``, the rest as `pool_function`'s."""
    real = _TYPES[dtype]

    def unpool(grad, codes, spread, count, height, width, channels, rows, columns, slope):
        small = (count, rows, columns, channels)
        whole = carray(spread, (count, height, width, channels))
        _unpool(carray(grad, small), carray(codes, small), whole, real(slope), slope != 1)

    return _compile(unpool, real, types.uint8, real)


def _compile(function: Any, *arrays: Any) -> Callable[..., None]:
    """A C function of addresses of arrays of these types, of sizes and a slope."""
    numba.get_num_threads()  # starts the threads, without which code from the cache does not load
    pointers = map(types.CPointer, arrays)
    compiled: Any = numba.cfunc(types.void(*pointers, *_SIZES, types.float64), cache=True)(function)
    _owners.append(compiled)
    return ctypes.CFUNCTYPE(
        None, *[ctypes.c_void_p] * len(arrays), *[ctypes.c_int64] * len(_SIZES), ctypes.c_double
    )(compiled.address)


def run(function: Callable[..., None], *arguments: float) -> None:
    """Call one of them with as many threads as PyTorch's operators use."""
    before = numba.get_num_threads()
    threads = min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS)
    if threads == before:
        function(*arguments)
        return
    numba.set_num_threads(threads)
    try:
        function(*arguments)
    finally:
        numba.set_num_threads(before)
