"""Frozen convolutions side by side as one function, which keeps nothing of what they read.

Each of them as a `FrozenConvolution` keeps nothing either; calling so many functions takes longer
than small convolutions do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gaslayers.lean.convolution import ConvolutionGeometry
from gaslayers.lean.engine.version import check_seen, seen
from gaslayers.lean.execution import takes_input
from gaslayers.lean.fused.frozen.convolution import reason_to_keep_input
from gaslayers.lean.fused.frozen.input_gradient import input_gradient
from gaslayers.lean.fused.units import Unit
from gaslayers.lean.layout import dense_strides


class FrozenBranches(torch.autograd.Function):
    """Branches of convolutions in a row, concatenated; the last arguments are their tensors."""

    @staticmethod
    def forward(
        ctx: Any,
        branches: Sequence[Sequence[ConvolutionGeometry]],
        x: Tensor,
        *tensors: Tensor | None,
    ) -> Tensor:
        """(N, C, H, W) -> (N, the branches' channels, H', W')."""
        outputs, read = [], []
        given = iter(tensors)
        for convolutions in branches:
            y = x
            for geometry in convolutions:
                given_shape, y = y.shape, geometry.pad(y)
                read.append((given_shape, y.shape, dense_strides(y)))
                # Of weights and biases by turns, only the latter may be missing.
                y = geometry.convolve(y, next(given), next(given))  # type: ignore[arg-type]
            outputs.append(y)
        ctx.branches, ctx.read = branches, read
        ctx.widths = [y.shape[1] for y in outputs]
        ctx.seen = seen(x)
        ctx.save_for_backward(*tensors[::2])
        return torch.cat(outputs, dim=1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """(N, the branches' channels, H', W') -> (N, C, H, W)."""
        # Asked for once: a checkpoint around the block hands its tensors back a single time.
        weights, read = list(ctx.saved_tensors), list(ctx.read)
        check_seen(ctx.seen)
        tensor_count = 2 * len(weights)
        total: Tensor | None = None
        # Sums are in autograd's order, the last branch first.
        parts = torch.split(grad, ctx.widths, dim=1)
        for convolutions, part in zip(reversed(ctx.branches), reversed(parts), strict=True):
            for geometry in reversed(convolutions):
                given_shape, shape, strides = read.pop()
                part = input_gradient(part, weights.pop(), shape, strides, geometry)
                part = geometry.crop(part, given_shape)
            total = part if total is None else total + part
        return None, total, *[None] * tensor_count


def are_frozen(branches: Sequence[Sequence[Unit]], x: Tensor) -> bool:
    """Whether these are bare convolutions of which only the input's gradient is asked for."""
    if not (x.requires_grad and torch.is_grad_enabled() and takes_input(x)):
        return False
    return all(
        unit.is_bare and reason_to_keep_input(unit.conv) is None
        for units in branches
        for unit in units
    )


def run_frozen(branches: Sequence[Sequence[Unit]], x: Tensor) -> Tensor:
    """Run branches side by side; only where `are_frozen` says so."""
    tensors = [t for units in branches for unit in units for t in (unit.weight, unit.bias)]
    geometries = [[unit.geometry for unit in units] for units in branches]
    return FrozenBranches.apply(geometries, x, *tensors)
