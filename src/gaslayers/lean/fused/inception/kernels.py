"""Convolutions of an Inception block run as fewer ones, by differentiable operations on kernels.

Without norm and activation between them, a 1x1 convolution and a k x k one are together a k x k
convolution whose kernel is the product of the two. The 1x1's bias does not reach as far: the
k x k convolution pads with zeros, not with that bias. What it adds to each pixel is therefore what
the k x k convolution makes of an image of it: a map that all samples share, or, where the input has
few channels, what one more channel of ones brings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gaslayers.lean.convolution import ConvolutionGeometry
from gaslayers.lean.fused.frozen.convolutions import convolve_frozen
from gaslayers.lean.fused.inception.composition_cost import ones_pay


class Kernel(NamedTuple):
    """A convolution as tensors.

    Args:
        weight: (out_channels, in_channels, k, k).
        bias: (out_channels,) or None.
        border: (out_channels, 1, k, k), what is applied to an image of ones and added; or None.
    """

    weight: Tensor
    bias: Tensor | None
    border: Tensor | None = None

    def placed(self, kernel_size: int, offset: int) -> Kernel:
        """The same convolution by a larger kernel, zeros around its own cells."""
        after = kernel_size - self.weight.shape[3] - offset
        if offset == after == 0:
            return self
        around = (offset, after, offset, after)
        border = None if self.border is None else F.pad(self.border, around)
        return Kernel(F.pad(self.weight, around), self.bias, border)


def compose(
    reduce: Tensor, reduce_bias: Tensor | None, weight: Tensor, bias: Tensor | None
) -> Kernel:
    """A 1x1 convolution and the one behind it as one."""
    # The other way round the 1x1 convolution runs on the kernel, whose input channels it takes for
    # features; its bias makes one channel more.
    made = reduce.transpose(0, 1)
    if reduce_bias is not None:
        made = torch.cat([made, reduce_bias[None, :, None, None]])
    made = F.conv2d(weight, made)
    channels = reduce.shape[1]
    return Kernel(made[:, :channels], bias, None if reduce_bias is None else made[:, channels:])


def join(kernels: Sequence[Kernel]) -> Kernel:
    """Kernels of one size as one that makes all their channels."""
    weight = torch.cat([kernel.weight for kernel in kernels])
    bias: Tensor | None = None
    border: Tensor | None = None
    if any(kernel.bias is not None for kernel in kernels):
        bias = torch.cat(
            [k.weight.new_zeros(len(k.weight)) if k.bias is None else k.bias for k in kernels]
        )
    if any(kernel.border is not None for kernel in kernels):
        border = torch.cat(
            [torch.zeros_like(k.weight[:, :1]) if k.border is None else k.border for k in kernels]
        )
    return Kernel(weight, bias, border)


def convolve(
    x: Tensor, kernel: Kernel, geometry: ConvolutionGeometry, layout: torch.memory_format
) -> Tensor:
    """(N, in_channels, H, W) -> (N, out_channels, H', W')."""
    border = kernel.border
    # Without a gradient for it, the map costs next to nothing.
    if border is not None and border.requires_grad and ones_pay(*kernel.weight.shape[:3]):
        x, kernel = _with_ones(x, kernel, border)
    # A copy: what is contiguous already may still have the strides of the other format.
    weight = kernel.weight.clone(memory_format=layout)
    bias = None if kernel.border is not None else kernel.bias
    padded = geometry.pad(x)
    if _keeps_nothing(x, weight, bias):
        y = convolve_frozen(geometry, padded, weight, bias)
    else:
        y = geometry.convolve(padded, weight, bias)
    if kernel.border is None:
        return y
    ones = geometry.pad(x.new_ones((1, 1, *x.shape[2:])))
    return y.add_(geometry.convolve(ones, kernel.border, kernel.bias))


def _with_ones(x: Tensor, kernel: Kernel, border: Tensor) -> tuple[Tensor, Kernel]:
    """The image of ones as one more channel of the input, and the kernel for it."""
    weight = torch.cat([kernel.weight, border], dim=1)
    # In the memory format of x, which concatenating them would not heed.
    return F.pad(x, (0, 0, 0, 0, 0, 1), value=1.0), Kernel(weight, kernel.bias)


def _keeps_nothing(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether the input's gradient is the only one to be computed."""
    trained = weight.requires_grad or (bias is not None and bias.requires_grad)
    return x.requires_grad and not trained and torch.is_grad_enabled()
