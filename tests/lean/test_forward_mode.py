"""Forward-mode differentiation: the blocks run plain, say so, and give the twin's tangent."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad

from gaslayers import (
    ConvNormAct,
    DenseBlock,
    DepthwiseConvNormAct,
    DepthwiseInceptionBlock,
    DownBlock,
    InceptionBlock,
)
from tests.lean.twins import twin_of

BLOCKS = [
    partial(DownBlock, 3, 4),
    partial(DownBlock, 3, 4, memory_efficient="recompute"),
    partial(DenseBlock, 3, 2),
    partial(InceptionBlock, 3, 8),
    partial(DepthwiseInceptionBlock, 3, 8),
    partial(DepthwiseConvNormAct, 3, 8, norm_layer=nn.BatchNorm2d, activation_layer=nn.ReLU),
    partial(ConvNormAct, 3, 8),
]


@pytest.mark.parametrize("build", BLOCKS, ids=lambda build: build.func.__name__)
@pytest.mark.parametrize("frozen", [False, True])
def test_tangent_is_that_of_the_plain_twin(build, frozen: bool) -> None:
    block = build().double().requires_grad_(not frozen)
    x = torch.randn(2, 3, 6, 5, dtype=torch.float64)
    tangent = torch.randn_like(x)
    results = []
    for module in (twin_of(block), block):
        with forward_ad.dual_level():
            output = module(forward_ad.make_dual(x, tangent))
            results.append(forward_ad.unpack_dual(output))
    expected, found = results
    torch.testing.assert_close(found.primal, expected.primal, rtol=0, atol=0)
    torch.testing.assert_close(found.tangent, expected.tangent, rtol=0, atol=0)


@pytest.mark.parametrize("build", BLOCKS[:4], ids=lambda build: build.func.__name__)
def test_execution_says_why(build) -> None:
    block = build()
    assert block.execution.is_lean
    with forward_ad.dual_level():
        assert str(block.execution) == "plain: forward-mode differentiation is active"
    assert block.execution.is_lean
