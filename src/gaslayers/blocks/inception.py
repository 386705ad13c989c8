"""The Inception block: branches of several kernel sizes side by side, concatenated."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from gaslayers._checks import (
    bad_value,
    check_bool,
    check_factory,
    check_int,
    check_int_sequence,
    check_memory_efficient,
)
from gaslayers._typing import ActivationLayer, ConvLayer, MemoryEfficient, NormLayer
from gaslayers.blocks._branched import BranchedBlock
from gaslayers.blocks._channels import resolve_branch_channels
from gaslayers.blocks._construction import Device, handing_on, placed
from gaslayers.blocks._geometry import check_kernels
from gaslayers.blocks.conv_norm_act import ConvNormAct
from gaslayers.lean.fused.inception.composition import Composition, plan_composition
from gaslayers.lean.fused.parts.units import Unit
from gaslayers.lean.modules import register_known


@register_known
class InceptionBlock(BranchedBlock):
    """Run one branch a kernel size on the same input and concatenate their outputs.

    A kernel size of 1 is a plain 1x1 convolution. A larger one is, with ``bottleneck=True``, a
    1x1 convolution to the branch's width and then the k x k convolution; with
    ``bottleneck=False`` the k x k convolution reads the input itself.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output, all branches together.
        kernel_sizes: One branch a kernel size, in the order of concatenation.
        bottleneck: Whether a 1x1 convolution precedes each larger kernel.
        branch_channels: Output channels a branch; None: an even split, the first ones wider.
        bottleneck_channels: Width of the 1x1 a branch (entries of 1x1 branches are not used);
            None: the branch's own width.
        stride: Step of each branch's last convolution.
        dilation: Spacing of the larger kernels' cells.
        bias: Whether the convolutions have biases; None: unless a norm follows directly.
        conv_layer: Factory of every convolution.
        norm_layer: Factory of the norm after every convolution, or None.
        activation_layer: Factory of the activation after every convolution, or None.
        memory_efficient: Run convolutions as one where that is no more work, and compute again in
            the backward pass what is cheap to; same outputs and gradients up to rounding. Where
            branches run as one, an infinity in the input reaches as far as the largest kernel.
            ``"recompute"``: compute everything again but the input.
        device: Where the layers are built; None: PyTorch's default device.
        dtype: The precision of parameters and buffers; None: PyTorch's default dtype.

    Shape:
        - Input: (N, in_channels, H, W) with H, W >= 1.
        - Output: (N, out_channels, ceil(H / stride), ceil(W / stride)).

    Raises:
        TypeError: An argument of the wrong kind.
        ValueError: Fewer output channels than branches, branch channels that do not sum to
            ``out_channels``, an input of another rank or channel count.

    Note:
        Differs from the paper: the branches are free and there is no pooling branch; norm and
        activation are options. GAS (2018) drew ``bottleneck=True`` and ran
        ``bottleneck=False``, with neither norm nor activation inside.

    Example:
        >>> import torch
        >>> block = InceptionBlock(3, 65)
        >>> block(torch.zeros(2, 3, 28, 28)).shape, block.branch_widths
        (torch.Size([2, 65, 28, 28]), (33, 32))

    References:
        Szegedy et al., Going deeper with convolutions, arXiv:1409.4842, figure 2.
    """

    _layer_argument = "conv_layer"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_sizes: Sequence[int] = (1, 3),
        bottleneck: bool = True,
        branch_channels: Sequence[int] | None = None,
        bottleneck_channels: Sequence[int] | None = None,
        stride: int = 1,
        dilation: int = 1,
        bias: bool | None = None,
        conv_layer: ConvLayer = nn.Conv2d,
        norm_layer: NormLayer | None = None,
        activation_layer: ActivationLayer | None = None,
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
        stride = check_int(owner, "stride", stride)
        dilation = check_int(owner, "dilation", dilation)
        check_kernels(owner, kernel_sizes=kernel_sizes, dilation=dilation, stride=stride)
        check_bool(owner, "bias", bias, optional=True)
        check_factory(owner, "conv_layer", conv_layer, optional=False)
        check_factory(owner, "norm_layer", norm_layer)
        check_factory(owner, "activation_layer", activation_layer)
        check_memory_efficient(owner, memory_efficient)
        widths = resolve_branch_channels(
            owner, out_channels, branch_channels, [1.0] * len(kernel_sizes)
        )
        inner_widths = self._resolve_bottleneck_channels(
            owner, bottleneck_channels, bottleneck=bottleneck, widths=widths
        )

        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_sizes = kernel_sizes
        self.bottleneck = bottleneck
        self.branch_channels = None if branch_channels is None else widths
        self.bottleneck_channels = None if bottleneck_channels is None else inner_widths
        self.stride = stride
        self.dilation = dilation
        self._bias = bias
        self.conv_layer = conv_layer
        self.norm_layer = norm_layer
        self.activation_layer = activation_layer
        self.memory_efficient = memory_efficient
        self.branch_widths = widths

        with placed(owner, device, dtype) as put, handing_on(owner):
            self.branches = nn.ModuleList(
                self._make_branch(kernel_size, width, inner_width)
                for kernel_size, width, inner_width in zip(
                    kernel_sizes, widths, inner_widths, strict=True
                )
            )
            if not memory_efficient:
                self._make_inside_plain()
            put(self)

    @staticmethod
    def _resolve_bottleneck_channels(
        owner: str,
        bottleneck_channels: Sequence[int] | None,
        *,
        bottleneck: bool,
        widths: tuple[int, ...],
    ) -> tuple[int, ...]:
        if bottleneck_channels is None:
            return widths
        given = check_int_sequence(owner, "bottleneck_channels", bottleneck_channels)
        if not bottleneck:
            rule = "be None without a bottleneck"
            raise bad_value(owner, "bottleneck_channels", rule, given)
        if len(given) != len(widths):
            rule = f"have one entry for each of the {len(widths)} kernel sizes"
            raise bad_value(owner, "bottleneck_channels", rule, given)
        return given

    def _unit(
        self, in_channels: int, out_channels: int, kernel_size: int = 1, stride: int = 1
    ) -> ConvNormAct:
        return ConvNormAct(
            in_channels,
            out_channels,
            kernel_size=kernel_size,
            stride=stride,
            dilation=self.dilation if kernel_size > 1 else 1,
            bias=self._bias,
            conv_layer=self.conv_layer,
            norm_layer=self.norm_layer,
            activation_layer=self.activation_layer,
            memory_efficient=bool(self.memory_efficient),
        )

    def _make_branch(self, kernel_size: int, width: int, inner_width: int) -> nn.Sequential:
        branch = nn.Sequential()
        channels = self.in_channels
        if self.bottleneck and kernel_size > 1:
            branch.add_module("reduce", self._unit(channels, inner_width))
            channels = inner_width
        branch.add_module("conv", self._unit(channels, width, kernel_size, self.stride))
        return branch

    def _compose(self, branches: Sequence[Sequence[Unit]]) -> Composition | None:
        return plan_composition(branches)

    def expected_macs(self, height: int, width: int) -> int:
        """Multiply-adds of one sample, the sum over branches.

        A branch of n channels costs ``H' W' in_channels n k^2``; with a bottleneck to m channels
        ``H W in_channels m + H' W' m n k^2``.

        Args:
            height: Height of the input; ``H' = ceil(H / stride)``.
            width: Width of the input.

        Raises:
            ValueError: A factory built a layer without a closed form.
        """
        return self._expected_macs(height, width)
