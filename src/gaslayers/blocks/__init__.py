"""Composable layers for discriminators, each with `out_channels`, so that any feeds any other."""

from gaslayers.blocks.conv_norm_act import ConvNormAct
from gaslayers.blocks.dense import DenseBlock
from gaslayers.blocks.depthwise_conv_norm_act import DepthwiseConvNormAct
from gaslayers.blocks.depthwise_inception import DepthwiseInceptionBlock
from gaslayers.blocks.down import DownBlock
from gaslayers.blocks.inception import InceptionBlock
from gaslayers.blocks.transition import TransitionBlock

__all__ = [
    "ConvNormAct",
    "DenseBlock",
    "DepthwiseConvNormAct",
    "DepthwiseInceptionBlock",
    "DownBlock",
    "InceptionBlock",
    "TransitionBlock",
]
