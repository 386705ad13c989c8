"""Batch norm by the batch's statistics, activation and 2x2 max pooling, by kernels of our own.

They are for maps in channels_last. Neither what the norm makes nor its gradient is written.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from gaslayers.lean.activations import IDENTITY
from gaslayers.lean.batch_norm import BatchNormCall
from gaslayers.lean.native import (
    norm_call,
    norm_reference,
    pool,
    pool_choice,
    pool_reference,
    windows,
)
from gaslayers.lean.native.door import NOWHERE, Door, Misfit
from gaslayers.lean.native.norm import lines_of
from gaslayers.lean.native.norm_call import LAYOUT, Gradients, Moments, empty_gradients, moments_of
from gaslayers.lean.native.norm_choice import take_call

WINDOW = windows.WINDOW


def suits(x: Tensor, kernel_size: object) -> bool:
    """Whether the kernels pool ``x``, which they take for a norm, by such windows.

    A map too small for them is left to PyTorch, which says so.
    """
    return kernel_size == WINDOW and min(x.shape[2:]) >= WINDOW and pool_choice.are_exact()


def take(x: Tensor, call: BatchNormCall, kernel_size: int) -> bool:
    """Whether the kernels take this map, norm and window."""
    return suits(x, kernel_size) and take_call(x, call)


def run(
    x: Tensor, batch_norm: BatchNormCall, slope: float, *, ceil_mode: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The pooled map, its packed codes, and the batch's statistics; running ones move.

    Args:
        x: (N, C, H, W), dense.
        batch_norm: In training.
        slope: Of the activation.
        ceil_mode: Whether a last window may reach over the edge.

    Shape: (N, C, H / 2, W / 2), rounded up in ceil mode; a line of uint8; and (2, C).
    """
    try:
        door = Door(x)
        place = door.map(x)
        lines = lines_of(door, place, batch_norm)
        pooled, packed = pool.empty_pooled(x.shape, x, slope, LAYOUT, ceil_mode=ceil_mode)
        moments = x.new_empty((2, x.shape[1]))
        mean, y, codes = door.made(moments, pooled, packed)
    except Misfit:
        made = norm_reference.run(x, batch_norm, IDENTITY, IDENTITY, overwrite=False)
        return *pool.pool(made[1], slope, LAYOUT, ceil_mode=ceil_mode), made[2]
    norm_call.run(
        "measure",
        door,
        (*place, *NOWHERE, y, door.channels, *NOWHERE * 3),
        (mean, mean + door.channels * door.dtype.itemsize, 0, *lines, 0, 0, codes),
        (*pooled.shape[2:], batch_norm.eps, batch_norm.momentum, IDENTITY, slope),
    )
    return pooled, packed, moments


def run_backward(
    grad: Tensor,
    packed: Tensor,
    x: Tensor,
    moments: Moments,
    weight: Tensor | None,
    bias: Tensor | None,
    slope: float,
    wanted: Sequence[bool],
) -> Gradients:
    """The gradients of the norm's input, weight and bias, those that are wanted.

    Shape:
        - grad: (N, C, H / 2, W / 2), in any memory format.
        - packed: As from `run`.
        - x: (N, C, H, W), in any memory format.
    """
    # Hooks on saved tensors need not give them back in their memory format.
    grad, x = (y.contiguous(memory_format=LAYOUT) for y in (grad, x))
    try:
        door = Door(x)
        place, lines = door.map(x), moments_of(door, moments)
        own = door.lines(weight, bias)
        pooled = grad.shape
        if not windows.is_pooled(pooled, x.shape):
            raise Misfit(f"{tuple(x.shape)} is not pooled to {tuple(pooled)}")
        through = door.dense(grad, LAYOUT)
        codes = door.codes(packed, windows.codes_size(pooled, slope))
        gradients = empty_gradients(x, wanted)
        y, *of_lines = door.made(*gradients)
    except Misfit:
        grad = pool_reference.unpool(grad, packed, x.shape, slope, LAYOUT)
        return norm_reference.normalize_backward(
            *(grad, x, moments, weight, bias, IDENTITY, IDENTITY, wanted, None, None)
        )
    norm_call.run(
        "normalize_backward",
        door,
        (*place, *NOWHERE, y, door.channels, through, door.channels, *NOWHERE * 2),
        (*lines, 0, 0, *own, *of_lines, codes),
        (*pooled[2:], 0.0, 0.0, IDENTITY, slope),
    )
    return gradients
