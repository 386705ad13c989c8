"""A gradient penalty through a lean block takes no more memory than through the plain one."""

from __future__ import annotations

from functools import partial

import pytest
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
    peak_memory,
)

BLOCKS = {
    "convolution": ConvNormAct,
    "separable": DepthwiseConvNormAct,
    "separable with norms": partial(
        DepthwiseConvNormAct,
        norm_layer=nn.BatchNorm2d,
        activation_layer=nn.LeakyReLU,
        inner_norm_layer=nn.BatchNorm2d,
        inner_activation_layer=nn.ReLU,
    ),
    "activations first": partial(
        DepthwiseConvNormAct,
        norm_layer=nn.BatchNorm2d,
        activation_layer=nn.ReLU,
        inner_activation_layer=nn.ReLU,
        order="act_norm",
    ),
    "inception": InceptionBlock,
    "depthwise inception": DepthwiseInceptionBlock,
    "depthwise inception with norms": partial(
        DepthwiseInceptionBlock, norm_layer=nn.BatchNorm2d, activation_layer=nn.ReLU
    ),
    "dense": DenseBlock,
    "dense with bottlenecks": partial(DenseBlock, bottleneck_factor=4),
    "dense of inception": partial(DenseBlock, layer=InceptionBlock),
    "dense of depthwise inception": partial(DenseBlock, layer=DepthwiseInceptionBlock),
    "transition": TransitionBlock,
    "stage": DownBlock,
    "stage without norm": partial(DownBlock, norm_layer=None),
}


class Penalised(nn.Module):
    """A block's mean and what WGAN-GP adds to it."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        y = self.block(x)
        (gradient,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        return y.mean() + (gradient.flatten(1).norm(2, 1) - 1).square().mean()


@pytest.mark.parametrize("name", BLOCKS)
def test_a_penalty_takes_no_more_through_a_lean_block(name: str) -> None:
    x = torch.zeros(4, 16, 16, 16)

    def peak(*, memory_efficient: bool) -> int:
        block = BLOCKS[name](16, 32, memory_efficient=memory_efficient)
        return peak_memory(Penalised(block), x).peak

    assert peak(memory_efficient=True) <= peak(memory_efficient=False)
