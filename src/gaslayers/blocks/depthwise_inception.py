"""The Inception block whose larger kernels are depthwise separable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from gaslayers._checks import (
    check_bool,
    check_factory,
    check_float,
    check_int,
    check_int_sequence,
    check_memory_efficient,
)
from gaslayers._typing import ActivationLayer, ConvLayer, MemoryEfficient, NormLayer
from gaslayers.blocks._branched import BranchedBlock
from gaslayers.blocks._channels import resolve_branch_channels
from gaslayers.blocks._construction import Device, build_layer, handing_on, placed
from gaslayers.blocks._geometry import check_kernels
from gaslayers.blocks.conv_norm_act import ConvNormAct
from gaslayers.blocks.depthwise_conv_norm_act import DepthwiseConvNormAct
from gaslayers.lean.modules import register_known


@register_known
class DepthwiseInceptionBlock(BranchedBlock):
    """Run one branch a kernel size on the same input, the larger ones depthwise separable.

    A kernel size of 1 is a plain 1x1 convolution. A larger one is, with ``bottleneck=True``, a
    1x1 convolution and then a depthwise separable k x k convolution; with ``bottleneck=False``
    the separable convolution reads the input itself.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output, all branches together.
        kernel_sizes: One branch a kernel size, in the order of concatenation.
        bottleneck: Whether a 1x1 convolution precedes each separable convolution.
        branch_channels: Output channels a branch; None: the separable branches get
            ``width_multiplier`` times the share of a 1x1 branch, what is left over goes first.
        stride: Step of each branch's last spatial convolution.
        dilation: Spacing of the depthwise kernels' cells.
        bias: Whether the convolutions have biases; None: unless a norm follows directly.
        conv_layer: Factory of every convolution.
        norm_layer: Factory of the norm after every convolution but the depthwise ones, or None.
        activation_layer: Factory of the activation in the same places, or None.
        width_multiplier: How many times wider than its bottleneck a separable branch comes out.
        inner_norm_layer: Factory of the norm between depthwise and pointwise, or None.
        inner_activation_layer: Factory of the activation between the two, or None.
        separable_layer: Factory of the separable unit, called as ``separable_layer(in_channels,
            out_channels, kernel_size=..., stride=..., dilation=...)``, where it needs other
            options than its 1x1 siblings; None: `DepthwiseConvNormAct` with those above.
        memory_efficient: Compute again in the backward pass what is cheap to, in place of keeping
            it; same outputs and gradients. ``"recompute"``: everything but the input.
        device: Where the layers are built; None: PyTorch's default device.
        dtype: The precision of parameters and buffers; None: PyTorch's default dtype.

    Shape:
        - Input: (N, in_channels, H, W) with H, W >= 1.
        - Output: (N, out_channels, ceil(H / stride), ceil(W / stride)).

    Raises:
        TypeError: An argument of the wrong kind.
        ValueError: Fewer output channels than branches need, branch channels that do not sum to
            ``out_channels``, a multiplier that is not positive, an input of another rank or
            channel count.

    Note:
        Differs from the paper: no paper joins the two; Inception's branches with Xception's
        convolution. GAS (2018) multiplied the separable branch by 4 on top of its nominal width
        k: its block of k filters is ``out_channels = k / 2 + 4 * k / 2, width_multiplier=4``,
        with convolution, ReLU, norm inside the separable unit and nothing after the 1x1s.

    Example:
        >>> import torch
        >>> block = DepthwiseInceptionBlock(1, 80, width_multiplier=4.0)
        >>> block(torch.zeros(2, 1, 28, 28)).shape, block.branch_widths
        (torch.Size([2, 80, 28, 28]), (16, 64))

    References:
        Szegedy et al., Going deeper with convolutions, arXiv:1409.4842, figure 2.
        Chollet, Xception, arXiv:1610.02357, section 2.
    """

    _layer_argument = "separable_layer"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_sizes: Sequence[int] = (1, 3),
        bottleneck: bool = True,
        branch_channels: Sequence[int] | None = None,
        stride: int = 1,
        dilation: int = 1,
        bias: bool | None = None,
        conv_layer: ConvLayer = nn.Conv2d,
        norm_layer: NormLayer | None = None,
        activation_layer: ActivationLayer | None = None,
        width_multiplier: float = 1.0,
        inner_norm_layer: NormLayer | None = None,
        inner_activation_layer: ActivationLayer | None = None,
        separable_layer: Callable[..., nn.Module] | None = None,
        memory_efficient: MemoryEfficient = True,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        in_channels = check_int(owner, "in_channels", in_channels)
        out_channels = check_int(owner, "out_channels", out_channels)
        kernel_sizes = check_int_sequence(owner, "kernel_sizes", kernel_sizes)
        check_bool(owner, "bottleneck", bottleneck)
        width_multiplier = check_float(owner, "width_multiplier", width_multiplier, above=0.0)
        check_float(owner, "width_multiplier", width_multiplier, minimum=2**-31, maximum=2**31)
        stride = check_int(owner, "stride", stride)
        dilation = check_int(owner, "dilation", dilation)
        check_kernels(owner, kernel_sizes=kernel_sizes, dilation=dilation, stride=stride)
        check_bool(owner, "bias", bias, optional=True)
        check_factory(owner, "conv_layer", conv_layer, optional=False)
        check_factory(owner, "norm_layer", norm_layer)
        check_factory(owner, "activation_layer", activation_layer)
        check_factory(owner, "inner_norm_layer", inner_norm_layer)
        check_factory(owner, "inner_activation_layer", inner_activation_layer)
        check_factory(owner, "separable_layer", separable_layer)
        check_memory_efficient(owner, memory_efficient)
        widths = resolve_branch_channels(
            owner,
            out_channels,
            branch_channels,
            [1.0 if size == 1 else width_multiplier for size in kernel_sizes],
        )

        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_sizes = kernel_sizes
        self.bottleneck = bottleneck
        self.branch_channels = None if branch_channels is None else widths
        self.stride = stride
        self.dilation = dilation
        self._bias = bias
        self.conv_layer = conv_layer
        self.norm_layer = norm_layer
        self.activation_layer = activation_layer
        self.width_multiplier = width_multiplier
        self.inner_norm_layer = inner_norm_layer
        self.inner_activation_layer = inner_activation_layer
        self.separable_layer = separable_layer
        self.memory_efficient = memory_efficient
        self.branch_widths = widths

        with placed(owner, device, dtype) as put, handing_on(owner):
            self.branches = nn.ModuleList(
                self._make_branch(kernel_size, width)
                for kernel_size, width in zip(kernel_sizes, widths, strict=True)
            )
            if not memory_efficient:
                self._make_inside_plain()
            put(self)

    def _pointwise(self, width: int, stride: int = 1) -> ConvNormAct:
        return ConvNormAct(
            self.in_channels,
            width,
            kernel_size=1,
            stride=stride,
            bias=self._bias,
            conv_layer=self.conv_layer,
            norm_layer=self.norm_layer,
            activation_layer=self.activation_layer,
            memory_efficient=bool(self.memory_efficient),
        )

    def _separable(self, in_channels: int, width: int, kernel_size: int) -> nn.Module:
        options: dict[str, Any] = {
            "kernel_size": kernel_size,
            "stride": self.stride,
            "dilation": self.dilation,
        }
        if self.separable_layer is not None:
            return build_layer(
                type(self).__name__,
                "separable_layer",
                self.separable_layer,
                in_channels,
                width,
                out_channels=width,
                **options,
            )
        return DepthwiseConvNormAct(
            in_channels,
            width,
            **options,
            bias=self._bias,
            conv_layer=self.conv_layer,
            norm_layer=self.norm_layer,
            activation_layer=self.activation_layer,
            inner_norm_layer=self.inner_norm_layer,
            inner_activation_layer=self.inner_activation_layer,
            memory_efficient=self.memory_efficient,
        )

    def _make_branch(self, kernel_size: int, width: int) -> nn.Sequential:
        branch = nn.Sequential()
        if kernel_size == 1:
            branch.add_module("conv", self._pointwise(width, self.stride))
            return branch
        channels = self.in_channels
        if self.bottleneck:
            channels = max(1, round(width / self.width_multiplier))
            branch.add_module("reduce", self._pointwise(channels))
        branch.add_module("conv", self._separable(channels, width, kernel_size))
        return branch

    def expected_macs(self, height: int, width: int) -> int:
        """Multiply-adds of one sample, the sum over branches.

        A 1x1 branch of n channels costs ``H' W' in_channels n``, a separable one
        ``H' W' in_channels (k^2 + n)``; with a bottleneck to m channels
        ``H W in_channels m + H' W' m (k^2 + n)``.

        Args:
            height: Height of the input; ``H' = ceil(H / stride)``.
            width: Width of the input.

        Raises:
            ValueError: A factory built a layer without a closed form.
        """
        return self._expected_macs(height, width)
