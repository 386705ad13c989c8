"""Batch norm by the batch's statistics, and an activation beside it, by kernels of our own.

They are for maps in channels_last, and for slices of the channels of such maps. All maps of a call
have one dtype, which is that of the statistics and of the parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gaslayers.lean.activations import IDENTITY
from gaslayers.lean.batch_norm import BatchNormCall
from gaslayers.lean.native.kernels import kernels
from gaslayers.lean.native.norm_call import (
    LAYOUT,
    Gradients,
    Moments,
    add_batch_norm,
    add_gradients,
    add_running,
    address_of,
    begin,
    empty_gradients,
    row_behind,
)


def measure(x: Tensor, moments: Tensor, eps: float, *, to: Tensor | None = None) -> None:
    """Write mean, inverse standard deviation and unbiased variance of each channel.

    Args:
        x: (N, C, H, W).
        moments: Written: (3, C), each row contiguous.
        eps: Added to the variance.
        to: Written: a copy of ``x``.
    """
    if type(x) is not Tensor:  # a fake one, which has no memory
        return
    call = begin(x, moments)
    call.variance = row_behind(call)
    if to is not None:
        call.kept, call.kept_stride = call.place(to)
    call.eps, call.slope_before = eps, IDENTITY
    kernels().run("measure", x.dtype, call)


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
    kept = x if overwrite or slope_before == IDENTITY else torch.empty_like(x)
    y, moments = torch.empty_like(x), x.new_empty((2, x.shape[1]))
    if type(x) is Tensor:
        call = begin(x, moments)
        if slope_before != IDENTITY:
            call.kept, call.kept_stride = call.place(kept)
        call.y, call.y_stride = call.place(y)
        add_batch_norm(call, batch_norm)
        call.slope_before, call.slope_behind = slope_before, slope_behind
        kernels().run("measure", x.dtype, call)
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
    y = torch.empty_like(x, memory_format=LAYOUT)
    if type(x) is Tensor:
        call = begin(x, moments)
        if tracking is not None:
            call.variance = row_behind(call)
            add_running(call, tracking)
        call.y, call.y_stride = call.place(y)
        call.weight, call.bias, call.slope_behind = address_of(weight), address_of(bias), slope
        kernels().run("normalize", x.dtype, call)
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
        grad: (N, C, H, W), of what the second activation made; even.
        x: (N, C, H, W), what the norm read: what the first activation made.
        moments: Its statistics; None: the norm only scales by the weight.
        weight: Scale of each channel, or None.
        bias: Offset of each channel, or None.
        slope_before: Of the first activation.
        slope_behind: Of the second one.
        wanted: Which of the three to find.
        more: (N, C, H, W), added to ``grad``; even.
        passed: (N, C, H, W), added to the first; even.
        overwrite: Whether the first may take the memory of ``grad``.
    """
    may_take = overwrite and grad.is_contiguous(memory_format=LAYOUT)
    gradients = empty_gradients(x, wanted, over=grad if may_take else None)
    if type(x) is Tensor:
        call = begin(x, moments)
        call.grad, call.grad_stride = call.place(grad)
        if more is not None:
            call.more, call.more_stride = call.place(more)
        if passed is not None:
            call.passed, call.passed_stride = call.place(passed)
        call.weight, call.bias = address_of(weight), address_of(bias)
        add_gradients(call, gradients)
        call.slope_before, call.slope_behind = slope_before, slope_behind
        kernels().run("normalize_backward", x.dtype, call)
    return gradients
