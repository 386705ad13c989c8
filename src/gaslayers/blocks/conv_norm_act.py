"""Convolution, normalisation and activation as one unit with same-size output."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
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
from gaslayers.blocks._closed_forms import check_convolution, layer_params
from gaslayers.blocks._construction import (
    Device,
    build_layer,
    make_activation,
    make_norm,
    placed,
)
from gaslayers.blocks._geometry import check_geometry, check_groups
from gaslayers.lean.convolution import ConvolutionGeometry
from gaslayers.lean.execution import Execution, plain, reason_against_lean
from gaslayers.lean.fused.frozen.convolutions import (
    asks_gradient,
    convolve_frozen,
    reason_against_frozen,
)
from gaslayers.lean.modules import register_known

ORDERS = ("norm_act", "act_norm")


@register_known
class ConvNormAct(Block):
    """Convolve, normalise, activate; at stride 1 the output has the input's height and width.

    The input is padded with ``dilation * (kernel_size - 1)`` zeros a side pair, the odd one at
    the bottom and right, so that even kernels keep the size too. An odd row or column that the
    stride leaves unread is not put there.

    ``weight`` and ``bias`` are those of the convolution, for code that asks for them by the name
    of the class, as DCGAN's ``weights_init`` does.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Side of the square kernel, even or odd.
        padding: Zeros at each end in place of those above, as in `torch.nn.Conv2d`: for height
            and width, or a pair of them. PatchGAN's last convolutions are
            ``kernel_size=4, padding=1``. None: what keeps the size.
        stride: Step of the convolution.
        dilation: Spacing of the kernel's cells.
        groups: Groups of the convolution.
        bias: Whether the convolution has a bias; None: unless a norm follows it directly.
        conv_layer: Factory of the convolution.
        norm_layer: Factory of the norm, or None.
        activation_layer: Factory of the activation, or None.
        order: ``"norm_act"`` or ``"act_norm"``, what comes first after the convolution.
        memory_efficient: Do not keep the input while the convolution is frozen; same outputs and
            gradients. ``"recompute"``: the same as True, for there is nothing to compute again.
        device: Where the layers are built; None: PyTorch's default device.
        dtype: The precision of parameters and buffers; None: PyTorch's default dtype.

    Shape:
        - Input: (N, in_channels, H, W) with H, W >= 1; with ``padding`` the padded input is at
          least as large as the dilated kernel.
        - Output: (N, out_channels, ceil(H / stride), ceil(W / stride)); with ``padding`` p
          ``floor((H + 2 p - dilation * (kernel_size - 1) - 1) / stride) + 1`` and likewise for W.

    Raises:
        TypeError: An argument of the wrong kind.
        ValueError: A size below 1, groups that do not divide the channels, a padding so large that
            outputs read zeros alone, an unknown order, an input of another rank or channel count.

    Note:
        Differs from the paper: no paper; TensorFlow's SAME padding at stride 1. At larger strides
        the padding stays that of stride 1, where TensorFlow's depends on the input's size.

    Example:
        >>> import torch
        >>> unit = ConvNormAct(3, 8, kernel_size=4, stride=2, norm_layer=nn.BatchNorm2d)
        >>> unit(torch.zeros(2, 3, 9, 9)).shape
        torch.Size([2, 8, 5, 5])
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
        groups: int = 1,
        bias: bool | None = None,
        conv_layer: ConvLayer = nn.Conv2d,
        norm_layer: NormLayer | None = None,
        activation_layer: ActivationLayer | None = None,
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
        groups = check_int(owner, "groups", groups)
        check_groups(owner, groups, in_channels=in_channels, out_channels=out_channels)
        geometry = check_geometry(
            owner, kernel_size=kernel_size, dilation=dilation, stride=stride, padding=padding
        )
        check_bool(owner, "bias", bias, optional=True)
        check_factory(owner, "conv_layer", conv_layer, optional=False)
        check_factory(owner, "norm_layer", norm_layer)
        check_factory(owner, "activation_layer", activation_layer)
        check_choice(owner, "order", order, ORDERS)
        check_memory_efficient(owner, memory_efficient)

        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.padding = None if padding is None else geometry.padding
        self.stride = stride
        self.dilation = dilation
        self.groups = groups
        self._bias = bias
        self.conv_layer = conv_layer
        self.norm_layer = norm_layer
        self.activation_layer = activation_layer
        self.order = order
        self.memory_efficient = memory_efficient

        norm_follows = norm_layer is not None and (order == "norm_act" or activation_layer is None)
        self._geometry = geometry
        self.extra_padding = geometry.extra_padding
        with placed(owner, device, dtype) as put:
            self.conv = build_layer(
                owner,
                "conv_layer",
                conv_layer,
                in_channels,
                out_channels,
                kernel_size,
                stride=stride,
                padding=geometry.padding,
                dilation=dilation,
                groups=groups,
                bias=not norm_follows if bias is None else bias,
            )
            self.norm = make_norm(owner, norm_layer, out_channels)
            self.activation = make_activation(owner, activation_layer)
            if not memory_efficient:
                self._make_inside_plain()
            put(self)

    @property
    def weight(self) -> Tensor:
        """The convolution's weight."""
        return self.conv.weight

    @property
    def bias(self) -> Tensor | None:
        """The convolution's bias, or None."""
        return self.conv.bias

    @property
    def execution(self) -> Execution:
        """The path that the next forward takes, and why."""
        reason = self._reason_against_frozen()
        return plain(reason) if reason else Execution("frozen convolution", "its input is not kept")

    def _reason_against_frozen(self) -> str | None:
        reason = reason_against_lean([self.conv], memory_efficient=bool(self.memory_efficient))
        return reason or reason_against_frozen(self.conv)

    def _convolve(self, x: Tensor) -> Tensor:
        conv = self.conv
        if asks_gradient(x) and not self._reason_against_frozen():
            return convolve_frozen(ConvolutionGeometry.of(conv), x, conv.weight, conv.bias)
        return conv(x)

    def _pad(self, x: Tensor) -> Tensor:
        extra = self.extra_padding
        if not extra:
            return x
        # Zeros that are not read may still be what another padding is made of.
        if is_traced(x) or getattr(self.conv, "padding_mode", None) != "zeros":
            return F.pad(x, (0, extra, 0, extra))
        return ConvolutionGeometry(self.conv.stride, extra_padding=extra).pad(x)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        check_feature_map(type(self).__name__, x, self.in_channels, least=self.least_sides())
        x = self._pad(x)
        x = self.conv(x) if is_traced(x) else self._convolve(x)
        if self.order == "norm_act":
            return self.activation(self.norm(x))
        return self.norm(self.activation(x))

    def least_sides(self, count: int = 1) -> tuple[int, int]:
        """The smallest height and width of an input that gives so many rows and columns."""
        return self._geometry.least_sides(count)

    def output_sides(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the output for those of an input.

        Args:
            height: Height of the input.
            width: Width of the input.

        Raises:
            ValueError: A size below 1, or one at which the kernel does not fit the padded input.
        """
        return self._geometry.output_sides(type(self).__name__, height, width)

    def expected_macs(self, height: int, width: int) -> int:
        """Multiply-adds of one sample: ``H' W' out_channels (in_channels / groups) k^2``.

        Args:
            height: Height of the input; ``H'`` is the output's, ``ceil(H / stride)`` without
                ``padding``.
            width: Width of the input.

        Raises:
            ValueError: The factory built no plain `torch.nn.Conv2d`, or the input is too small.
        """
        owner = type(self).__name__
        check_convolution(
            owner,
            self.conv,
            in_channels=self.in_channels,
            out_channels=self.out_channels,
            kernel_size=self.kernel_size,
            stride=self.stride,
            padding=self._geometry.padding,
            dilation=self.dilation,
            groups=self.groups,
        )
        weights = self.out_channels * self.in_channels // self.groups * self.kernel_size**2
        return math.prod(self.output_sides(height, width)) * weights

    def expected_params(self) -> int:
        """Trainable parameters: the convolution's, and those of norm and activation.

        Raises:
            ValueError: A factory built a layer whose parameters no formula knows.
        """
        owner = type(self).__name__
        return (
            layer_params(owner, "conv_layer", self.conv)
            + layer_params(owner, "norm_layer", self.norm)
            + layer_params(owner, "activation_layer", self.activation)
        )
