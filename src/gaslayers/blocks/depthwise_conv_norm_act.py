"""The depthwise separable convolution as one unit."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gaslayers._checks import (
    check_bool,
    check_choice,
    check_factory,
    check_feature_map,
    check_int,
    check_memory_efficient,
    is_traced,
)
from gaslayers._typing import ActivationLayer, ConvLayer, MemoryEfficient, NormLayer
from gaslayers.blocks._block import Block
from gaslayers.blocks._closed_forms import output_size
from gaslayers.blocks._construction import Device, handing_on, placed
from gaslayers.blocks._geometry import check_geometry
from gaslayers.blocks.conv_norm_act import ORDERS, ConvNormAct
from gaslayers.lean.execution import Execution
from gaslayers.lean.fused.chain.row import Row, reasons_against_chains
from gaslayers.lean.fused.parts.units import take_apart
from gaslayers.lean.modules import register_known


@register_known
class DepthwiseConvNormAct(Block):
    """Convolve each channel on its own, then mix the channels with a 1x1 convolution.

    Multiply-adds a pixel: ``in_channels * kernel_size^2 + in_channels * out_channels``, where the
    full convolution takes ``in_channels * out_channels * kernel_size^2``.

    ``weight`` and ``bias`` are those of the pointwise convolution, for code that asks for them by
    the name of the class; such code visits both convolutions in any case.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Side of the square depthwise kernel, even or odd.
        padding: Zeros at each end of the depthwise convolution's input, for height and width or a
            pair of them; None: what keeps the size, as in `ConvNormAct`.
        stride: Step of the depthwise convolution.
        dilation: Spacing of the depthwise kernel's cells.
        bias: Whether the convolutions have biases; None: unless a norm follows directly.
        conv_layer: Factory of both convolutions.
        norm_layer: Factory of the norm after the pointwise convolution, or None.
        activation_layer: Factory of the activation after the pointwise convolution, or None.
        inner_norm_layer: Factory of the norm between the two convolutions, or None.
        inner_activation_layer: Factory of the activation between the two, or None.
        order: ``"norm_act"`` or ``"act_norm"``, in both places.
        memory_efficient: Compute again in the backward pass what is cheap to, in place of keeping
            it; same outputs and gradients. ``"recompute"``: everything but the input.
        device: Where the layers are built; None: PyTorch's default device.
        dtype: The precision of parameters and buffers; None: PyTorch's default dtype.

    Shape:
        - Input: (N, in_channels, H, W) with H, W >= 1; with ``padding`` the padded input is at
          least as large as the dilated kernel.
        - Output: (N, out_channels, ceil(H / stride), ceil(W / stride)); with ``padding`` that of a
          `ConvNormAct` with it.

    Raises:
        TypeError: An argument of the wrong kind.
        ValueError: A size below 1, a padding so large that outputs read zeros alone, an unknown
            order, an input of another rank or channel count.

    Note:
        Differs from the paper: Xception has nothing between the two convolutions and puts the
        depthwise one first, as here; norm and activation between are options. GAS (2018) used
        convolution, ReLU, norm in both places: ``order="act_norm"``.

    Example:
        >>> import torch
        >>> unit = DepthwiseConvNormAct(8, 16, inner_activation_layer=nn.ReLU)
        >>> unit(torch.zeros(2, 8, 7, 5)).shape
        torch.Size([2, 16, 7, 5])

    References:
        Chollet, Xception, arXiv:1610.02357, section 2.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 3,
        padding: int | Sequence[int] | None = None,
        stride: int = 1,
        dilation: int = 1,
        bias: bool | None = None,
        conv_layer: ConvLayer = nn.Conv2d,
        norm_layer: NormLayer | None = None,
        activation_layer: ActivationLayer | None = None,
        inner_norm_layer: NormLayer | None = None,
        inner_activation_layer: ActivationLayer | None = None,
        order: str = "norm_act",
        memory_efficient: MemoryEfficient = True,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        in_channels = check_int(owner, "in_channels", in_channels)
        out_channels = check_int(owner, "out_channels", out_channels)
        kernel_size = check_int(owner, "kernel_size", kernel_size)
        stride = check_int(owner, "stride", stride)
        dilation = check_int(owner, "dilation", dilation)
        geometry = check_geometry(
            owner, kernel_size=kernel_size, dilation=dilation, stride=stride, padding=padding
        )
        check_bool(owner, "bias", bias, optional=True)
        check_factory(owner, "conv_layer", conv_layer, optional=False)
        check_factory(owner, "norm_layer", norm_layer)
        check_factory(owner, "activation_layer", activation_layer)
        check_factory(owner, "inner_norm_layer", inner_norm_layer)
        check_factory(owner, "inner_activation_layer", inner_activation_layer)
        check_choice(owner, "order", order, ORDERS)
        check_memory_efficient(owner, memory_efficient)

        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.padding = None if padding is None else geometry.padding
        self.stride = stride
        self.dilation = dilation
        self._bias = bias
        self.conv_layer = conv_layer
        self.norm_layer = norm_layer
        self.activation_layer = activation_layer
        self.inner_norm_layer = inner_norm_layer
        self.inner_activation_layer = inner_activation_layer
        self.order = order
        self.memory_efficient = memory_efficient

        with placed(owner, device, dtype) as put:
            inner = {"norm_layer": "inner_norm_layer", "activation_layer": "inner_activation_layer"}
            with handing_on(owner, **inner):
                self.depthwise = ConvNormAct(
                    in_channels,
                    in_channels,
                    kernel_size=kernel_size,
                    padding=padding,
                    stride=stride,
                    dilation=dilation,
                    groups=in_channels,
                    bias=bias,
                    conv_layer=conv_layer,
                    norm_layer=inner_norm_layer,
                    activation_layer=inner_activation_layer,
                    order=order,
                    memory_efficient=bool(memory_efficient),
                )
            with handing_on(owner):
                self.pointwise = ConvNormAct(
                    in_channels,
                    out_channels,
                    kernel_size=1,
                    bias=bias,
                    conv_layer=conv_layer,
                    norm_layer=norm_layer,
                    activation_layer=activation_layer,
                    order=order,
                    memory_efficient=bool(memory_efficient),
                )
            put(self)

    @property
    def weight(self) -> Tensor:
        """The weight of the pointwise convolution, which makes the output."""
        return self.pointwise.weight

    @property
    def bias(self) -> Tensor | None:
        """The bias of the pointwise convolution, or None."""
        return self.pointwise.bias

    def least_sides(self, count: int = 1) -> tuple[int, int]:
        """The smallest height and width of an input that gives so many rows and columns."""
        return self.depthwise.least_sides(count)

    def _forward_plain(self, x: Tensor) -> Tensor:
        # N x in_channels x ceil(H / stride) x ceil(W / stride)
        x = self.depthwise(x)
        # N x out_channels x ceil(H / stride) x ceil(W / stride)
        return self.pointwise(x)

    @property
    def _row(self) -> Row:
        """The units, with what a chain of them needs to know."""
        units = [take_apart(self.depthwise), take_apart(self.pointwise)]
        return Row(
            units,
            run_plain=self._forward_plain,
            reason=reasons_against_chains((), [units], self.memory_efficient)[0],
            recompute=self.memory_efficient == "recompute",
        )

    @property
    def execution(self) -> Execution:
        """The path that the next forward takes, and why."""
        return self._row.execution

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        check_feature_map(type(self).__name__, x, self.in_channels, least=self.least_sides())
        if is_traced(x):
            return self._forward_plain(x)
        return self._row.run(x)

    def expected_macs(self, height: int, width: int) -> int:
        """Multiply-adds of one sample: ``H' W' in_channels (k^2 + out_channels)``.

        Args:
            height: Height of the input; ``H' = ceil(H / stride)``.
            width: Width of the input.

        Raises:
            ValueError: The factory built no plain `torch.nn.Conv2d`.
        """
        output_size(type(self).__name__, height, width)
        rows, columns = self.depthwise.output_sides(height, width)
        depthwise = self.depthwise.expected_macs(height, width)
        return depthwise + self.pointwise.expected_macs(rows, columns)

    def expected_params(self) -> int:
        """Trainable parameters: ``in_channels (k^2 + out_channels)``, biases, norms, activations.

        Raises:
            ValueError: A factory built a layer whose parameters no formula knows.
        """
        return self.depthwise.expected_params() + self.pointwise.expected_params()
