"""Batch norm by the batch's statistics, activation and 2x2 max pooling, by kernels of our own.

They are for maps in channels_last. Neither what the norm makes nor its gradient is written.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from gaslayers.lean.activations import IDENTITY
from gaslayers.lean.batch_norm import BatchNormCall
from gaslayers.lean.native import pool
from gaslayers.lean.native.kernels import kernels
from gaslayers.lean.native.norm_call import (
    LAYOUT,
    Gradients,
    Moments,
    add_batch_norm,
    add_gradients,
    address_of,
    begin,
    empty_gradients,
)
from gaslayers.lean.native.norm_choice import take_call

WINDOW = pool.WINDOW


def suits(x: Tensor, kernel_size: object) -> bool:
    """Whether the kernels pool ``x``, which they take for a norm, by such windows.

    A map too small for them is left to PyTorch, which says so.
    """
    return kernel_size == WINDOW and min(x.shape[2:]) >= WINDOW


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
    pooled, packed = pool.empty_pooled(x.shape, x, slope, LAYOUT, ceil_mode=ceil_mode)
    moments = x.new_empty((2, x.shape[1]))
    if type(x) is Tensor:
        call = begin(x, moments)
        add_batch_norm(call, batch_norm)
        call.y, call.y_stride = pooled.data_ptr(), x.shape[1]
        call.packed = packed.data_ptr()
        call.height, call.width, call.rows, call.columns = *x.shape[2:], *pooled.shape[2:]
        call.slope_before, call.slope_behind = IDENTITY, slope
        kernels().run("measure", x.dtype, call)
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
    gradients = empty_gradients(x, wanted)
    if type(x) is Tensor:
        call = begin(x, moments)
        call.grad, call.grad_stride = grad.data_ptr(), x.shape[1]
        call.packed = packed.data_ptr()
        call.height, call.width, call.rows, call.columns = *x.shape[2:], *grad.shape[2:]
        call.weight, call.bias = address_of(weight), address_of(bias)
        add_gradients(call, gradients)
        call.slope_before, call.slope_behind = IDENTITY, slope
        kernels().run("normalize_backward", x.dtype, call)
    return gradients
