"""Batch norm by the batch's statistics, and an activation beside it, by kernels of our own.

They are for maps in channels_last, and for slices of the channels of such maps. All maps of a call
have one dtype, which is that of the statistics and of the parameters. Other tensors, as hooks on
saved ones may hand back, are left to PyTorch's operators.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gaslayers.lean.activations import IDENTITY
from gaslayers.lean.batch_norm import BatchNormCall
from gaslayers.lean.native import norm_call, norm_reference
from gaslayers.lean.native.door import NOTHING, NOWHERE, Door, Misfit, Place
from gaslayers.lean.native.norm_call import LAYOUT, Gradients, Moments, empty_gradients, moments_of


def lines_of(door: Door, x: Place, call: BatchNormCall) -> list[int]:
    """Where running mean and variance, weight and bias of a norm in training are.

    Raises:
        Misfit: They are not lines of a value for each channel, apart from each other and from what
            the norm reads: running statistics are written while the others are read.
    """
    lines = door.lines(call.running_mean, call.running_var, call.weight, call.bias)
    door.keep_lines_apart(lines, x)
    return lines


def measure(x: Tensor, moments: Tensor, eps: float, *, to: Tensor | None = None) -> None:
    """Write mean, inverse standard deviation and unbiased variance of each channel.

    Args:
        x: (N, C, H, W).
        moments: Written: (3, C), each row contiguous.
        eps: Added to the variance.
        to: Written: a copy of ``x``.
    """
    try:
        door = Door(x)
        place = door.map(x)
        kept = NOWHERE if to is None else door.map(to)
        lines = moments_of(door, moments, rows=3)
        door.keep_lines_apart(lines, place)
        if to is not None:
            door.keep_maps_apart(kept, [place])
            door.keep_lines_apart(lines, kept)
    except Misfit:
        norm_reference.measure(x, moments, eps, to)
        return
    norm_call.run(
        "measure",
        door,
        (*place, *kept, *NOWHERE * 4),
        (*lines, *NOTHING * 7),
        (0, 0, eps, 0.0, IDENTITY, IDENTITY),
    )


def run(
    x: Tensor,
    batch_norm: BatchNormCall,
    *,
    slope_before: float = IDENTITY,
    slope_behind: float = IDENTITY,
    overwrite: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """What the norm read, the result, and the batch's statistics; running ones move.

    Args:
        x: (N, C, H, W), dense.
        batch_norm: In training.
        slope_before: Of an activation of what it reads.
        slope_behind: Of one of what it makes.
        overwrite: Whether what it reads may take the memory of ``x``.

    Shape: twice (N, C, H, W), and (2, C).
    """
    kept, place_kept = x, NOWHERE
    try:
        door = Door(x)
        place = door.map(x)
        lines = lines_of(door, place, batch_norm)
        y, moments = torch.empty_like(x, memory_format=LAYOUT), x.new_empty((2, x.shape[1]))
        if slope_before != IDENTITY:
            kept = x if overwrite else torch.empty_like(x, memory_format=LAYOUT)
            place_kept = place if overwrite else (door.made(kept)[0], door.channels)
        made, mean = door.made(y, moments)
    except Misfit:
        return norm_reference.run(x, batch_norm, slope_before, slope_behind, overwrite=overwrite)
    norm_call.run(
        "measure",
        door,
        (*place, *place_kept, made, door.channels, *NOWHERE * 3),
        (mean, mean + door.channels * door.dtype.itemsize, 0, *lines, *NOTHING * 3),
        (0, 0, batch_norm.eps, batch_norm.momentum, slope_before, slope_behind),
    )
    return kept, y, moments


def normalize(
    x: Tensor,
    moments: Moments | None,
    weight: Tensor | None,
    bias: Tensor | None,
    slope: float,
    *,
    tracking: BatchNormCall | None = None,
) -> Tensor:
    """Normalise by these statistics, or only scale, and activate.

    Args:
        x: (N, C, H, W).
        moments: Mean and inverse standard deviation of each channel; None: scale only.
        weight: Scale of each channel, or None.
        bias: Offset of each channel, or None.
        slope: The activation's.
        tracking: The norm whose running statistics move, by moments as from `measure`.

    Shape: (N, C, H, W), new memory.
    """
    running, momentum = [0, 0], 0.0
    try:
        door = Door(x)
        place = door.map(x)
        lines = moments_of(door, moments, rows=2 if tracking is None else 3)
        own = door.lines(weight, bias)
        if tracking is not None:
            running = door.lines(tracking.running_mean, tracking.running_var)
            door.keep_lines_apart([*running, *own, *lines], place)
            momentum = tracking.momentum
        y = torch.empty_like(x, memory_format=LAYOUT)
        (made,) = door.made(y)
    except Misfit:
        return norm_reference.normalize(x, moments, weight, bias, slope, tracking)
    norm_call.run(
        "normalize",
        door,
        (*place, *NOWHERE, made, door.channels, *NOWHERE * 3),
        (*lines, *running, *own, *NOTHING * 3),
        (0, 0, 0.0, momentum, IDENTITY, slope),
    )
    return y


def normalize_backward(
    grad: Tensor,
    x: Tensor,
    moments: Moments | None,
    weight: Tensor | None,
    bias: Tensor | None,
    *,
    slope_before: float = IDENTITY,
    slope_behind: float = IDENTITY,
    wanted: Sequence[bool],
    more: Tensor | None = None,
    passed: Tensor | None = None,
    overwrite: bool = False,
) -> Gradients:
    """The gradients of what came before the first activation, of the weight and of the bias.

    Args:
        grad: (N, C, H, W), of what the second activation made.
        x: (N, C, H, W), what the norm read: what the first activation made.
        moments: Its statistics; None: the norm only scales by the weight.
        weight: Scale of each channel, or None.
        bias: Offset of each channel, or None.
        slope_before: Of the first activation.
        slope_behind: Of the second one.
        wanted: Which of the three to find.
        more: (N, C, H, W), added to ``grad``.
        passed: (N, C, H, W), added to the first.
        overwrite: Whether the first may take the memory of ``grad``.
    """
    try:
        door = Door(x)
        place = door.map(x)
        lines, own = moments_of(door, moments), door.lines(weight, bias)
        grads = [NOWHERE if g is None else door.map(g) for g in (grad, more, passed)]
        in_place = overwrite and wanted[0] and grad.is_contiguous(memory_format=LAYOUT)
        if in_place:
            # Lines are made by others, and never of what a gradient is written to.
            door.keep_maps_apart(grads[0], [place, *grads[1:]])
        gradients = empty_gradients(x, wanted, over=grad if in_place else None)
        y, *of_lines = door.made(*gradients)
    except Misfit:
        return norm_reference.normalize_backward(
            *(grad, x, moments, weight, bias, slope_before, slope_behind, wanted, more, passed)
        )
    norm_call.run(
        "normalize_backward",
        door,
        (*place, *NOWHERE, y, door.channels, *grads[0], *grads[1], *grads[2]),
        (*lines, 0, 0, *own, *of_lines, 0),
        (0, 0, 0.0, 0.0, slope_before, slope_behind),
    )
    return gradients
