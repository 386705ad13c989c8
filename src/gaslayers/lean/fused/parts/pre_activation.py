"""A layer as one function: norm, activation and convolutions, the first two computed again.

The plain composition keeps their output for the gradient of the convolution's weights, beside
their input. After a dense block the input is the block's output, which it keeps itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gaslayers.lean.batch_norm import running_of
from gaslayers.lean.fused.parts.layer import Layer
from gaslayers.lean.fused.parts.slots import Slots
from gaslayers.lean.precision import convolution_dtype, without_autocast
from gaslayers.lean.rerun import save, saved


class PreActivation(torch.autograd.Function):
    """Norm, activation and convolution, from the input and the parameters."""

    @staticmethod
    def forward(ctx: Any, layer: Layer, dtype: torch.dtype, x: Tensor, *tensors: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, out_channels, H, W)."""
        slots = Slots(tensors, dtype, x, calls=layer.calls)
        _, activated, moments = layer.front.run(x, slots)
        made: list[Tensor] = []
        kept: list[Tensor | None] = []
        for branch in layer.branches:
            new, own = branch.forward(activated, slots)
            made.append(new)
            kept += own
        ctx.layer, ctx.dtype, ctx.tensor_count = layer, dtype, len(tensors)
        save(ctx, x, moments, *tensors, *kept, watched=running_of(layer.calls))
        return made[0] if len(made) == 1 else torch.cat(made, dim=1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """(N, out_channels, H, W) -> the gradients of the input and of the tensors."""
        x, moments, *rest = saved(ctx)
        tensors, kept = rest[: ctx.tensor_count], rest[ctx.tensor_count :]
        wants_x, *wanted = ctx.needs_input_grad[2:]
        slots = Slots(tensors, ctx.dtype, x, wanted, grad)
        with without_autocast(x.device):
            grad_x = ctx.layer.backward(grad, x, kept, slots, moments, wants_read=wants_x)
        return None, None, grad_x, *slots.gradients


def run_pre_activation(layer: Layer, tensors: Sequence[Tensor], x: Tensor) -> Tensor:
    """Run them; only where `gaslayers.lean.precision.suits` says so."""
    dtype = convolution_dtype(x, tensors)
    with without_autocast(x.device):
        return PreActivation.apply(layer, dtype, x, *tensors)
