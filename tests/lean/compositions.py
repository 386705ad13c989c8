"""What a block computes, written down as a composition of PyTorch's own modules.

Only the innermost layers are the block's own, the very same objects; its forward is not read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gaslayers import (
    ConvNormAct,
    DenseBlock,
    DepthwiseConvNormAct,
    DepthwiseInceptionBlock,
    DownBlock,
    InceptionBlock,
    TransitionBlock,
)
from gaslayers.blocks.dense_layer import DenseBottleneck
from gaslayers.models.discriminator import Discriminator


class SideBySide(nn.ModuleList):
    """Branches whose outputs are concatenated."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self], dim=1)


class Densely(nn.ModuleList):
    """Layers that each read everything before them."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            x = torch.cat([x, layer(x)], dim=1)
        return x


def _unit(block: Any) -> nn.Sequential:
    # An even kernel leaves one row of zeros over, which goes to the bottom and right.
    odd = block.dilation * (block.kernel_size - 1) % 2
    padding = [nn.ZeroPad2d((0, odd, 0, odd))] if odd else []
    following = [block.norm, block.activation]
    if block.order == "act_norm":
        following.reverse()
    return nn.Sequential(*padding, block.conv, *following)


def _branches(block: Any) -> SideBySide:
    return SideBySide([compose(branch) for branch in block.branches])


def _dense_layer(layer: Any) -> nn.Sequential:
    return nn.Sequential(layer.norm, layer.activation, compose(layer.conv), layer.dropout)


def _discriminator(block: Any) -> nn.Sequential:
    head = [nn.Sigmoid()] if block.head == "sigmoid" else []
    return nn.Sequential(*map(compose, block.stages), nn.Flatten(), block.classifier, *head)


_COMPOSITIONS: dict[type, Callable[[Any], nn.Module]] = {
    ConvNormAct: _unit,
    DepthwiseConvNormAct: lambda b: nn.Sequential(_unit(b.depthwise), _unit(b.pointwise)),
    InceptionBlock: _branches,
    DepthwiseInceptionBlock: _branches,
    DenseBottleneck: lambda b: nn.Sequential(b.reduce, b.norm, b.activation, b.conv),
    DenseBlock: lambda b: Densely([_dense_layer(layer) for layer in b.layers]),
    TransitionBlock: lambda b: nn.Sequential(b.norm, b.activation, compose(b.conv), b.pool),
    DownBlock: lambda b: nn.Sequential(compose(b.body), b.norm, b.activation, b.pool),
    Discriminator: _discriminator,
    nn.Sequential: lambda b: nn.Sequential(*map(compose, b)),
}


def compose(block: nn.Module) -> nn.Module:
    """The block as such a composition; a layer that is no block is itself."""
    make = _COMPOSITIONS.get(type(block))
    return block if make is None else make(block)
