"""Convolution, normalisation and activation as one unit with same-size output."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gaslayers._checks import check_bool, check_choice, check_factory, check_feature_map, check_int
from gaslayers._typing import ActivationLayer, ConvLayer, NormLayer
from gaslayers.blocks._block import Block
from gaslayers.blocks._closed_forms import check_convolution, layer_params, output_size
from gaslayers.lean.execution import Execution, plain, reason_for_plain, takes_input
from gaslayers.lean.frozen.convolution import convolve_frozen, reason_to_keep_input
from gaslayers.lean.modules import register_known

ORDERS = ("norm_act", "act_norm")


def make_norm(norm_layer: NormLayer | None, num_features: int) -> nn.Module:
    """Build the norm, or nothing where there is no factory."""
    return nn.Identity() if norm_layer is None else norm_layer(num_features)


def make_activation(activation_layer: ActivationLayer | None) -> nn.Module:
    """Build the activation, or nothing where there is no factory."""
    return nn.Identity() if activation_layer is None else activation_layer()


@register_known
class ConvNormAct(Block):
    """Convolve, normalise, activate; at stride 1 the output has the input's height and width.

    The input is padded with ``dilation * (kernel_size - 1)`` zeros a side pair, the odd one at
    the bottom and right, so that even kernels keep the size too.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Side of the square kernel, even or odd.
        stride: Step of the convolution.
        dilation: Spacing of the kernel's cells.
        groups: Groups of the convolution.
        bias: Whether the convolution has a bias; None: unless a norm follows it directly.
        conv_layer: Factory of the convolution.
        norm_layer: Factory of the norm, or None.
        activation_layer: Factory of the activation, or None.
        order: ``"norm_act"`` or ``"act_norm"``, what comes first after the convolution.
        memory_efficient: Do not keep the input while the convolution is frozen; same outputs and
            gradients.

    Shape:
        - Input: (N, in_channels, H, W) with H, W >= 1.
        - Output: (N, out_channels, ceil(H / stride), ceil(W / stride)).

    Raises:
        TypeError: An argument of the wrong kind.
        ValueError: A size below 1, an unknown order, an input of another rank or channel count.

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
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool | None = None,
        conv_layer: ConvLayer = nn.Conv2d,
        norm_layer: NormLayer | None = None,
        activation_layer: ActivationLayer | None = None,
        order: str = "norm_act",
        memory_efficient: bool = True,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        check_int(owner, "in_channels", in_channels)
        check_int(owner, "out_channels", out_channels)
        check_int(owner, "kernel_size", kernel_size)
        check_int(owner, "stride", stride)
        check_int(owner, "dilation", dilation)
        check_int(owner, "groups", groups)
        check_bool(owner, "bias", bias, optional=True)
        check_factory(owner, "conv_layer", conv_layer, optional=False)
        check_factory(owner, "norm_layer", norm_layer)
        check_factory(owner, "activation_layer", activation_layer)
        check_choice(owner, "order", order, ORDERS)
        check_bool(owner, "memory_efficient", memory_efficient)

        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.dilation = dilation
        self.groups = groups
        self.bias = bias
        self.conv_layer = conv_layer
        self.norm_layer = norm_layer
        self.activation_layer = activation_layer
        self.order = order
        self.memory_efficient = memory_efficient

        norm_follows = norm_layer is not None and (order == "norm_act" or activation_layer is None)
        padding = dilation * (kernel_size - 1)
        self.extra_padding = padding % 2
        self.conv = conv_layer(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding // 2,
            dilation=dilation,
            groups=groups,
            bias=not norm_follows if bias is None else bias,
        )
        self.norm = make_norm(norm_layer, out_channels)
        self.activation = make_activation(activation_layer)

    @property
    def execution(self) -> Execution:
        """The path that the next forward takes, and why."""
        reason = self._reason_for_plain()
        return plain(reason) if reason else Execution("frozen convolution", "its input is not kept")

    def _reason_for_plain(self) -> str | None:
        reason = reason_for_plain([self.conv], memory_efficient=self.memory_efficient)
        return reason or reason_to_keep_input(self.conv)

    def _convolve(self, x: Tensor) -> Tensor:
        is_asked = x.requires_grad and torch.is_grad_enabled() and takes_input(x)
        if is_asked and not self._reason_for_plain():
            return convolve_frozen(self.conv, x)
        return self.conv(x)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        check_feature_map(type(self).__name__, x, self.in_channels)
        if self.extra_padding:
            x = F.pad(x, (0, self.extra_padding, 0, self.extra_padding))
        x = self._convolve(x)
        if self.order == "norm_act":
            return self.activation(self.norm(x))
        return self.norm(self.activation(x))

    def expected_macs(self, height: int, width: int) -> int:
        """Multiply-adds of one sample: ``H' W' out_channels (in_channels / groups) k^2``.

        Args:
            height: Height of the input; ``H' = ceil(H / stride)``.
            width: Width of the input.

        Raises:
            ValueError: The factory built no plain `torch.nn.Conv2d`.
        """
        owner = type(self).__name__
        check_convolution(
            owner,
            self.conv,
            in_channels=self.in_channels,
            out_channels=self.out_channels,
            kernel_size=self.kernel_size,
            stride=self.stride,
            padding=self.dilation * (self.kernel_size - 1) // 2,
            dilation=self.dilation,
            groups=self.groups,
        )
        weights = self.out_channels * self.in_channels // self.groups * self.kernel_size**2
        return output_size(owner, height, width, self.stride) * weights

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
