"""A convolution with frozen weights that does not keep its input.

The gradient of the input needs the weights alone. Autograd keeps the input all the same, so that
freezing a discriminator while the generator learns saves nothing in the plain composition.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gaslayers.lean.convolution import ConvolutionGeometry
from gaslayers.lean.engine.version import check_seen, seen
from gaslayers.lean.fused.frozen.input_gradient import input_gradient
from gaslayers.lean.layout import dense_strides
from gaslayers.lean.modules import are_plain
from gaslayers.lean.precision import has_autocast


class FrozenConvolution(torch.autograd.Function):
    """`torch.nn.functional.conv2d` whose weight and bias get no gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        geometry: ConvolutionGeometry,
    ) -> Tensor:
        """(N, C, H, W) -> (N, out_channels, H', W')."""
        ctx.save_for_backward(weight)
        ctx.seen = seen(x)
        ctx.shape, ctx.strides = x.shape, dense_strides(x)
        ctx.geometry = geometry
        return geometry.convolve(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """(N, out_channels, H', W') -> (N, C, H, W)."""
        (weight,) = ctx.saved_tensors
        check_seen(ctx.seen)
        grad_x = input_gradient(grad, weight, ctx.shape, ctx.strides, ctx.geometry)
        return grad_x, None, None, None


def reason_to_keep_input(conv: nn.Module) -> str | None:
    """What speaks against `convolve_frozen` for this layer; None: nothing."""
    if type(conv) is not nn.Conv2d:
        return f"{type(conv).__name__} is no plain Conv2d"
    # The tensors in use, which under functional calls need not be registered parameters.
    if not are_plain([conv.weight, *([] if conv.bias is None else [conv.bias])]):
        return "the convolution's weights are tensors of another class"
    if conv.weight.requires_grad or (conv.bias is not None and conv.bias.requires_grad):
        return "the convolution's weights are trained: their gradient needs its input"
    if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        return "the convolution's padding is no plain zeros"
    if has_autocast(conv.weight.device):
        return "autocast is on"
    return None


def convolve_frozen(conv: Any, x: Tensor) -> Tensor:
    """Run a frozen convolution without keeping its input."""
    return FrozenConvolution.apply(x, conv.weight, conv.bias, ConvolutionGeometry.of(conv))
