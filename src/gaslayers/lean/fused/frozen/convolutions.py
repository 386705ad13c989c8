"""Frozen convolutions as one function, which keeps nothing of what they read.

The gradient of the input needs the weights alone. Autograd keeps the input all the same, so that
freezing a discriminator while the generator learns saves nothing in the plain composition. The
engine keeps none of it either. This takes less time: where an image is read, by a kernel of our
own; and for branches side by side, since calling many functions takes longer than small
convolutions do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gaslayers.lean.convolution import ConvolutionGeometry
from gaslayers.lean.engine.version import check_seen, seen
from gaslayers.lean.execution import takes_input
from gaslayers.lean.fused.frozen.input_gradient import input_gradient
from gaslayers.lean.fused.parts.units import Unit, pads_with_zeros
from gaslayers.lean.layout import dense_strides
from gaslayers.lean.modules import are_plain
from gaslayers.lean.precision import has_autocast


class FrozenConvolutions(torch.autograd.Function):
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
        return torch.cat(outputs, dim=1) if len(outputs) > 1 else outputs[0]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """(N, the branches' channels, H', W') -> (N, C, H, W)."""
        # Asked for once: a checkpoint around the block hands its tensors back a single time.
        weights, read = list(ctx.saved_tensors), list(ctx.read)
        check_seen(ctx.seen)
        tensor_count = 2 * len(weights)
        total: Tensor | None = None
        # Sums are in autograd's order, the last branch first.
        parts = torch.split(grad, ctx.widths, dim=1) if len(ctx.widths) > 1 else [grad]
        for convolutions, part in zip(reversed(ctx.branches), reversed(parts), strict=True):
            for geometry in reversed(convolutions):
                given_shape, shape, strides = read.pop()
                part = input_gradient(part, weights.pop(), shape, strides, geometry)
                part = geometry.crop(part, given_shape)
            total = part if total is None else total + part
        return None, total, *[None] * tensor_count


def reason_against_frozen(conv: Any) -> str | None:
    """What speaks against running this layer as a frozen convolution; None: nothing."""
    if type(conv) is not nn.Conv2d:
        return f"{type(conv).__name__} is no plain Conv2d"
    # The tensors in use, which under functional calls need not be registered parameters.
    tensors = [conv.weight] if conv.bias is None else [conv.weight, conv.bias]
    if not are_plain(tensors):
        return "the convolution's weights are tensors of another class"
    if any(tensor.requires_grad for tensor in tensors):
        return "the convolution's weights are trained: their gradient needs its input"
    if not pads_with_zeros(conv):
        return "the convolution's padding is no plain zeros"
    if has_autocast(conv.weight.device):
        return "autocast is on"
    return None


def are_frozen(branches: Sequence[Sequence[Unit]], x: Tensor) -> bool:
    """Whether these are bare convolutions of which only the input's gradient is asked for."""
    return asks_gradient(x) and all(
        unit.is_bare and reason_against_frozen(unit.conv) is None
        for units in branches
        for unit in units
    )


def asks_gradient(x: Tensor) -> bool:
    """Whether the gradient of this input is to be computed, which lean paths may read."""
    return x.requires_grad and torch.is_grad_enabled() and takes_input(x)


def run_frozen(branches: Sequence[Sequence[Unit]], x: Tensor) -> Tensor:
    """Run branches side by side; only where `are_frozen` says so."""
    tensors = [t for units in branches for unit in units for t in (unit.weight, unit.bias)]
    geometries = [[unit.geometry for unit in units] for units in branches]
    return FrozenConvolutions.apply(geometries, x, *tensors)


def convolve_frozen(
    geometry: ConvolutionGeometry, padded: Tensor, weight: Tensor, bias: Tensor | None
) -> Tensor:
    """Run one convolution, as `ConvolutionGeometry.convolve`."""
    alone = geometry._replace(extra_padding=0)
    return FrozenConvolutions.apply([[alone]], padded, weight, bias)
