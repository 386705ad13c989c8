"""For each block of the API pages: the call whose cost and picture the page shows, and for what."""

from __future__ import annotations

from typing import NamedTuple


class Shown(NamedTuple):
    """A call that builds the block, and the shape of its input."""

    call: str
    shape: str


COSTS = {
    "gaslayers.ConvNormAct": Shown(
        "ConvNormAct(32, 64, norm_layer=nn.BatchNorm2d, activation_layer=nn.ReLU)", "32 32 28 28"
    ),
    "gaslayers.DepthwiseConvNormAct": Shown(
        "DepthwiseConvNormAct(32, 64, norm_layer=nn.BatchNorm2d, activation_layer=nn.ReLU)",
        "32 32 28 28",
    ),
    "gaslayers.InceptionBlock": Shown("InceptionBlock(32, 64)", "32 32 28 28"),
    "gaslayers.DepthwiseInceptionBlock": Shown("DepthwiseInceptionBlock(32, 64)", "32 32 28 28"),
    "gaslayers.DenseBlock": Shown("DenseBlock(32, 16, num_layers=3)", "32 32 28 28"),
    "gaslayers.TransitionBlock": Shown("TransitionBlock(80)", "32 80 28 28"),
    "gaslayers.DownBlock": Shown("DownBlock(32, 64)", "32 32 28 28"),
}
