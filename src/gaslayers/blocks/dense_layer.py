"""One layer of a dense block: normalise and activate what is there, convolve it to new features."""

from __future__ import annotations

from torch import Tensor, nn

from gaslayers._typing import ActivationLayer, BlockLayer, NormLayer
from gaslayers.blocks._block import Block
from gaslayers.blocks._closed_forms import layer_macs, layer_params
from gaslayers.blocks._construction import build_layer, make_activation, make_norm
from gaslayers.lean.modules import register_known


@register_known
class DenseBottleneck(Block):
    """The 1x1 - norm - activation - 3x3 tail of DenseNet's bottleneck layer.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output, the growth rate.
        bottleneck_channels: Channels between the two convolutions.
        norm_layer: Factory of the norm between them, or None.
        activation_layer: Factory of the activation between them, or None.

    Shape:
        - Input: (N, in_channels, H, W).
        - Output: (N, out_channels, H, W).

    Note:
        Differs from the paper: nothing; the norm and activation in front belong to `DenseLayer`.

    References:
        Huang et al., Densely Connected Convolutional Networks, arXiv:1608.06993, section 3.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bottleneck_channels: int,
        norm_layer: NormLayer | None = nn.BatchNorm2d,
        activation_layer: ActivationLayer | None = nn.ReLU,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.bottleneck_channels = bottleneck_channels
        self.norm_layer = norm_layer
        self.activation_layer = activation_layer

        bias = norm_layer is None
        self.reduce = nn.Conv2d(in_channels, bottleneck_channels, 1, bias=bias)
        owner = type(self).__name__
        self.norm = make_norm(owner, norm_layer, bottleneck_channels)
        self.activation = make_activation(owner, activation_layer)
        self.conv = nn.Conv2d(bottleneck_channels, out_channels, 3, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H, W)."""
        # N x bottleneck_channels x H x W
        x = self.activation(self.norm(self.reduce(x)))
        return self.conv(x)

    def expected_macs(self, height: int, width: int) -> int:
        """Multiply-adds of one sample: ``H W m (in_channels + 9 out_channels)`` for m between."""
        owner = type(self).__name__
        return sum(
            layer_macs(owner, "layer", conv, height, width) for conv in (self.reduce, self.conv)
        )

    def expected_params(self) -> int:
        """Trainable parameters of both convolutions, the norm and the activation."""
        owner = type(self).__name__
        return (
            layer_params(owner, "layer", self.reduce)
            + layer_params(owner, "norm_layer", self.norm)
            + layer_params(owner, "activation_layer", self.activation)
            + layer_params(owner, "layer", self.conv)
        )


@register_known
class DenseLayer(Block):
    """Norm, activation, convolution and dropout, from all features so far to a few new ones.

    Args:
        in_channels: Channels of the features so far.
        out_channels: Channels of the new features, the growth rate.
        layer: Factory of the convolution, called as ``layer(in_channels, out_channels)``.
        norm_layer: Factory of the norm in front, or None.
        activation_layer: Factory of the activation in front, or None.
        drop_rate: Probability of dropping a new feature's value in training.

    Shape:
        - Input: (N, in_channels, H, W).
        - Output: (N, out_channels, H, W).

    Note:
        Differs from the paper: nothing with its 3x3 or bottleneck convolution as ``layer``.

    References:
        Huang et al., Densely Connected Convolutional Networks, arXiv:1608.06993, section 3.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        layer: BlockLayer,
        norm_layer: NormLayer | None = nn.BatchNorm2d,
        activation_layer: ActivationLayer | None = nn.ReLU,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.layer = layer
        self.norm_layer = norm_layer
        self.activation_layer = activation_layer
        self.drop_rate = drop_rate

        owner = type(self).__name__
        self.norm = make_norm(owner, norm_layer, in_channels)
        self.activation = make_activation(owner, activation_layer)
        self.conv = build_layer(
            owner, "layer", layer, in_channels, out_channels, out_channels=out_channels
        )
        self.dropout = nn.Dropout(drop_rate) if drop_rate > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H, W)."""
        x = self.activation(self.norm(x))
        return self.dropout(self.conv(x))
