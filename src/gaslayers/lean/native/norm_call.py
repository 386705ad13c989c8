"""The call of a norm's kernel: where its maps and lines are, and what they must be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from gaslayers.lean.native.door import Door, pixel_stride
from gaslayers.lean.native.kernels import kernels
from gaslayers.lean.native.structures import NORM_CALL

Moments: TypeAlias = Tensor | Sequence[Tensor]
"""Mean and inverse standard deviation of each channel: rows of one tensor, or two."""

Fields: TypeAlias = tuple[float, ...]

LAYOUT = torch.channels_last


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


def is_even(x: Tensor) -> bool:
    """Whether ``x`` is a map in channels_last, or a slice of the channels of one."""
    return pixel_stride(x) is not None


def is_dense(x: Tensor) -> bool:
    """Whether ``x`` is a whole map in channels_last."""
    return pixel_stride(x) == x.shape[1]


def moments_of(door: Door, moments: Moments | None, rows: int = 2) -> tuple[int, int, int]:
    """Where mean, inverse standard deviation and, as the third row, unbiased variance are.

    Raises:
        Misfit: They are not lines of a value for each channel.
    """
    if moments is None:
        return 0, 0, 0
    if isinstance(moments, Tensor):  # in place of as many calls of an operator as rows
        mean, step = door.rows(moments, rows)
        return mean, mean + step, mean + 2 * step if rows > 2 else 0
    mean, inverse_std = door.lines(*moments)
    return mean, inverse_std, 0


def run(kernel: str, door: Door, maps: Fields, lines: Fields, rest: Fields) -> None:
    """Run a kernel on what came through the door, as the fields of ``struct norm_call``.

    Args:
        kernel: Its name.
        door: Through which all of it came.
        maps: What the norm reads, a copy of that, the result, its gradient, what is added to this
            and to the gradient of what the norm reads: each an address and a stride.
        lines: Mean, inverse standard deviation and variance, running mean and variance, weight,
            bias, their gradients, and codes of windows.
        rest: Rows and columns of windows, what is added to the variance, how fast running
            statistics move, and the slopes before and behind the norm.
    """
    if door.is_real:
        _, channels, height, width = door.shape
        call = NORM_CALL.pack(
            *maps, *lines, door.pixels, channels, height, width, *rest, 0, 0, 0, 0, 0
        )
        kernels().run(kernel, door.dtype, call)


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
