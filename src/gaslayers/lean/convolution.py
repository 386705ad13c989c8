"""How a convolution walks over its input: the one description of it, with its operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.utils import _pair

from gaslayers._checks import is_tracing
from gaslayers.lean.activations import IDENTITY, activation_backward

Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]
"""Of what a convolution reads, of its weight and of its bias, where they are asked for."""


class ConvolutionGeometry(NamedTuple):
    """A convolution without its tensors.

    Args:
        stride: Its step.
        padding: Zeros at each end of height and width.
        dilation: Spacing of the kernel's cells.
        groups: Its groups.
        extra_padding: Zeros put at the bottom and right beforehand.
    """

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    extra_padding: int = 0

    @classmethod
    def of(cls, conv: Any, extra_padding: int = 0) -> ConvolutionGeometry:
        """That of a `torch.nn.Conv2d` which pads with zeros, by numbers."""
        return cls(conv.stride, conv.padding, conv.dilation, conv.groups, extra_padding)

    def pad(self, x: Tensor) -> Tensor:
        """Put the extra zeros, as far as they are read.

        Windows start at multiples of the stride. The one that ends in the extra row starts in row
        ``H - 1``.
        """
        rows = columns = self.extra_padding
        # Where sizes are symbols or recorded, nothing may depend on whether they are even.
        if rows and not (torch.compiler.is_compiling() or is_tracing()):
            row_step, column_step = _pair(self.stride)  # which may have been set to one number
            rows = 0 if (x.shape[2] - 1) % row_step else rows
            columns = 0 if (x.shape[3] - 1) % column_step else columns
        return F.pad(x, (0, columns, 0, rows)) if rows or columns else x

    def crop(self, grad: Tensor, shape: Sequence[int]) -> Tensor:
        """The gradient of what `pad` made of a map of this shape -> that of the map."""
        rows, columns = grad.shape[2] - shape[2], grad.shape[3] - shape[3]
        return F.pad(grad, (0, -columns, 0, -rows)) if rows or columns else grad

    def convolve(self, padded: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """What `pad` made -> (N, out_channels, H', W')."""
        return F.conv2d(padded, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def gradients(
        self, grad: Tensor, padded: Tensor, weight: Tensor, mask: Sequence[bool]
    ) -> Gradients:
        """Those of what `pad` made, of the weight and of the bias, where ``mask`` says so."""
        found: Gradients = torch.ops.aten.convolution_backward(
            grad,
            padded,
            weight,
            [weight.shape[0]],  # of the bias, if its gradient is asked for
            self.stride,
            self.padding,
            self.dilation,
            False,
            [0, 0],
            self.groups,
            list(mask),
        )
        return found

    def offset_in(self, larger: ConvolutionGeometry) -> int | None:
        """Where a kernel's first cell lies among those of a larger one; None: between two."""
        cells, rest = divmod(larger.padding[0] - self.padding[0], larger.dilation[0])
        return cells if rest == 0 else None

    def shrinks_by(self, sides: Sequence[int]) -> tuple[int, ...]:
        """How many rows and columns less a kernel of these sides makes, by steps of one."""
        return tuple(
            (side - 1) * step - 2 * padding - self.extra_padding
            for side, step, padding in zip(sides, self.dilation, self.padding, strict=True)
        )


class KnownConvolution(torch.autograd.Function):
    """What a convolution and an activation made, as a function of what they made it from.

    Under a gradient penalty the graph holds what a layer made. A second copy of what was kept
    would lift the peak above that of the plain composition.
    """

    @staticmethod
    def forward(
        ctx: Any,
        geometry: ConvolutionGeometry,
        slope: float,
        made: Tensor,
        padded: Tensor,
        weight: Tensor,
        _bias: Tensor | None,
    ) -> Tensor:
        """(N, out_channels, H', W') -> the same, in the same memory."""
        ctx.geometry, ctx.slope = geometry, slope
        ctx.save_for_backward(padded, weight, made if slope != IDENTITY else None)
        return made.detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """(N, out_channels, H', W') -> the gradients of what was padded, weight and bias."""
        padded, weight, activated = ctx.saved_tensors
        if activated is not None:
            grad = activation_backward(grad, activated > 0, ctx.slope)
        wants = ctx.needs_input_grad[3:]
        return None, None, None, *ctx.geometry.gradients(grad, padded, weight, wants)
