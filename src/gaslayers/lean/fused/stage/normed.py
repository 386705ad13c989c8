"""Batch norm, activation and pooling of a stage that keeps what the norm reads.

Where kernels of our own run, the norm is one of them, and so are all three with a pooling that is
in windows of 2x2; they keep what the layers themselves would.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gaslayers.lean.batch_norm import (
    BatchNormCall,
    count_batch,
    is_batch_norm,
    norm_backward,
    read_call,
    running_of,
)
from gaslayers.lean.execution import is_batch
from gaslayers.lean.fused.pool.activation_pool import activate_and_pool
from gaslayers.lean.fused.stage.recomputed import pool_normed
from gaslayers.lean.modules import reason_against_replacing
from gaslayers.lean.native import norm as native_norm
from gaslayers.lean.native import norm_pool
from gaslayers.lean.native.norm_call import is_even
from gaslayers.lean.native.norm_choice import take_call
from gaslayers.lean.rerun import save, saved


class LiveBatchNorm(torch.autograd.Function):
    """What `torch.nn.BatchNorm2d` computes in training, and keeps for its backward pass."""

    @staticmethod
    def forward(
        ctx: Any, call: BatchNormCall, x: Tensor, weight: Tensor | None, _bias: Tensor | None
    ) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        _, y, moments = native_norm.run(x, call)
        ctx.eps = call.eps
        save(ctx, x, weight, moments, watched=running_of([call]))
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """(N, C, H, W) -> the gradients of the input, the weight and the bias."""
        x, weight, moments = saved(ctx)
        wanted = ctx.needs_input_grad[1:]
        by_operator = torch.is_grad_enabled() or is_batch(grad)
        if by_operator or not is_even(grad):
            arguments = weight, None, None, *moments, True, ctx.eps, wanted
            return None, *norm_backward(grad, x, *arguments)
        # Hooks on saved tensors need not give them back in their memory format.
        x = x.contiguous(memory_format=torch.channels_last)
        return None, *native_norm.normalize_backward(grad, x, moments, weight, None, wanted=wanted)


def _live_call(norm: Any) -> BatchNormCall | None:
    """What the norm would call, if it takes the batch's statistics; the batch is not counted."""
    if torch.compiler.is_compiling():  # which fuses these layers itself
        return None
    if not is_batch_norm(norm) or reason_against_replacing([norm]) is not None:
        return None
    call = read_call(norm)
    return call if call.training else None


def normalize_activate_and_pool(x: Tensor, norm: Any, activation: nn.Module, pool: Any) -> Tensor:
    """Run the three and keep codes of the last two; only where `reason_against_codes` is None.

    Shape: (N, C, H, W) -> (N, C, H / k, W / k).
    """
    call = _live_call(norm)
    if call is not None and take_call(x, call):
        call = count_batch(call)
        if type(pool) is nn.MaxPool2d and norm_pool.suits(x, pool.kernel_size):
            return pool_normed(x, call, activation, pool)
        x = LiveBatchNorm.apply(call, x, call.weight, call.bias)
    else:
        x = norm(x)
    return activate_and_pool(x, activation, pool) if x.requires_grad else pool(activation(x))
