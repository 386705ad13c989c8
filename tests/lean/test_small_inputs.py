"""Batches without an image, channels of one value, maps smaller than a window."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gaslayers import DownBlock
from tests.lean.outcomes import Drawn, assert_as_plain, blocks, draws, step

SMALL = [
    (0, 4, 6, 6),
    (0, 4, 1, 1),
    (1, 4, 1, 1),
    (2, 4, 1, 1),
    (1, 4, 2, 2),
    (1, 4, 1, 7),
    (1, 4, 7, 1),
    (2, 4, 0, 5),
    (2, 4, 5, 0),
]


@pytest.mark.parametrize("shape", SMALL)
@draws(25)
@given(drawn=blocks())
def test_a_small_input_ends_as_in_the_composition(shape, drawn: Drawn) -> None:
    x = drawn.input(shape=shape)
    assert_as_plain(drawn.block, lambda module, owner: step(module, owner, x))


@draws(25)
@given(drawn=blocks(), shape=st.sampled_from(SMALL))
def test_a_small_input_without_a_graph_ends_as_in_the_composition(drawn: Drawn, shape) -> None:
    x = drawn.input(shape=shape)

    def act(module, owner):
        with torch.no_grad():
            return {"output": module(x), **dict(owner.named_buffers())}

    assert_as_plain(drawn.block, act)


@pytest.mark.parametrize("memory_efficient", [True, "recompute", False])
def test_a_single_value_a_channel_is_refused_in_training_alone(memory_efficient) -> None:
    pool = partial(nn.MaxPool2d, ceil_mode=True)
    stage = DownBlock(4, 8, pool_layer=pool, memory_efficient=memory_efficient)
    x = torch.randn(1, 4, 1, 1, requires_grad=True)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel when training"):
        stage(x)
    stage.eval()(x).sum().backward()
    assert x.grad is not None
