"""Norms of another size than their map: refused as by `torch.nn.BatchNorm2d`, on every path."""

from __future__ import annotations

import contextlib
from functools import partial

import pytest
import torch
from torch import nn

from gaslayers import (
    ConvNormAct,
    DenseBlock,
    DepthwiseConvNormAct,
    DepthwiseInceptionBlock,
    DownBlock,
    InceptionBlock,
)
from gaslayers.blocks import TransitionBlock
from gaslayers.lean.native import availability
from tests.lean.native.maps import LAST

BLOCKS = {
    "stage": partial(DownBlock, 16, 64),
    "recomputed stage": partial(DownBlock, 16, 64, memory_efficient="recompute"),
    "averaging stage": partial(DownBlock, 16, 64, pool_layer=nn.AvgPool2d),
    "plain stage": partial(DownBlock, 16, 64, memory_efficient=False),
    "dense": partial(DenseBlock, 16, 16, num_layers=2),
    "bottleneck": partial(DenseBlock, 16, 16, num_layers=2, bottleneck_factor=2),
    "transition": partial(TransitionBlock, 16),
    "unit": partial(ConvNormAct, 16, 32),
    "separable unit": partial(DepthwiseConvNormAct, 16, 32),
    "inception": partial(InceptionBlock, 16, 64),
    "separable inception": partial(DepthwiseInceptionBlock, 16, 64),
}


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("by_kernels", [True, False])
@pytest.mark.parametrize("layout", [LAST, torch.contiguous_format])
@pytest.mark.parametrize("kind", BLOCKS)
def test_a_norm_of_the_wrong_size_is_refused(kind, layout, by_kernels, training, affine) -> None:
    def norm_layer(_channels: int) -> nn.Module:
        return nn.BatchNorm2d(8, affine=affine)

    block = BLOCKS[kind](norm_layer=norm_layer).to(memory_format=layout).train(training)
    x = torch.randn(2, 16, 8, 8).contiguous(memory_format=layout).requires_grad_()
    kernels = contextlib.nullcontext() if by_kernels else availability.switched_off()
    with kernels, pytest.raises(RuntimeError, match=r"should contain \d+ elements not 8"):
        block(x)


@pytest.mark.parametrize("name", ["weight", "bias", "running_mean", "running_var"])
@pytest.mark.parametrize("layout", [LAST, torch.contiguous_format])
@pytest.mark.parametrize("size", [1, 8, 65, 128])
def test_one_line_of_another_size_is_refused(name, layout, size) -> None:
    stage = DownBlock(16, 64).to(memory_format=layout)
    line = torch.ones(size)
    if name in ("weight", "bias"):
        line = nn.Parameter(line)
    setattr(stage.norm, name, line)
    x = torch.randn(2, 16, 8, 8).contiguous(memory_format=layout)
    with pytest.raises(RuntimeError, match=rf"{name} should contain 64 elements not {size}"):
        stage(x)
