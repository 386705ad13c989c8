"""The Inception block: branches of several kernel sizes side by side, concatenated."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gaslayers._checks import (
    bad_value,
    check_bool,
    check_factory,
    check_feature_map,
    check_int,
    check_int_sequence,
    check_memory_efficient,
    is_traced,
)
from gaslayers._typing import ActivationLayer, ConvLayer, MemoryEfficient, NormLayer
from gaslayers.blocks._block import Block
from gaslayers.blocks._channels import resolve_branch_channels
from gaslayers.blocks._closed_forms import layer_macs, layer_params
from gaslayers.blocks._construction import Device, handing_on, placed
from gaslayers.blocks._geometry import check_kernels
from gaslayers.blocks.conv_norm_act import ConvNormAct
from gaslayers.lean.execution import Execution
from gaslayers.lean.fused.frozen.convolutions import are_frozen, run_frozen
from gaslayers.lean.fused.inception.composition import plan_composition
from gaslayers.lean.fused.separable.row import Row, reason_against_lean, side_by_side
from gaslayers.lean.fused.units import Unit, take_apart
from gaslayers.lean.modules import register_known


@register_known
class InceptionBlock(Block):
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

    def _take_apart(self) -> tuple[list[list[Unit]], str | None]:
        """The units of each branch, and what speaks against not calling them; None: nothing."""
        units = [[take_apart(unit) for unit in branch.children()] for branch in self.branches]
        every = [unit for row in units for unit in row]
        return units, reason_against_lean(self.branches, every, self.memory_efficient)

    def _rows(self, units: list[list[Unit]], reason: str | None) -> list[Row]:
        """How each branch would run alone."""
        return [
            Row(
                row,
                run_plain=branch,
                reason=reason,
                recompute=self.memory_efficient == "recompute",
                is_branch=len(units) > 1,
                input_is_kept=any(row[0].is_trained for row in units),
            )
            for branch, row in zip(self.branches, units, strict=True)
        ]

    @property
    def execution(self) -> Execution:
        """The path that the next forward takes, and why."""
        units, reason = self._take_apart()
        composition = None if reason else plan_composition(units)
        rows = self._rows(units, reason)
        if composition is None:
            return side_by_side(row.execution for row in rows)
        choice = composition.choice
        alone = [
            row.execution
            for row, composed in zip(rows, choice.composed, strict=True)
            if not (composed or choice.joined)
        ]
        return side_by_side([composition.execution, *alone])

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        check_feature_map(type(self).__name__, x, self.in_channels)
        if is_traced(x):
            return torch.cat([branch(x) for branch in self.branches], dim=1)
        units, reason = self._take_apart()
        composition = None if reason else plan_composition(units)
        composes = composition is not None and composition.suits(x)
        if not (reason or composes) and are_frozen(units, x):
            return run_frozen(units, x)
        runs = [row.run for row in self._rows(units, reason)]
        if composition is not None and composes:
            return composition.run(x, runs)
        # One N x branch_width x ceil(H / stride) x ceil(W / stride) a branch.
        return torch.cat([run(x) for run in runs], dim=1)

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
        owner = type(self).__name__
        units = [unit for branch in self.branches for unit in branch.children()]
        return sum(layer_macs(owner, "conv_layer", unit, height, width) for unit in units)

    def expected_params(self) -> int:
        """Trainable parameters of all branches.

        Raises:
            ValueError: A factory built a layer whose parameters no formula knows.
        """
        owner = type(self).__name__
        units = [unit for branch in self.branches for unit in branch.children()]
        return sum(layer_params(owner, "conv_layer", unit) for unit in units)
