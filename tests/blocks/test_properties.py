"""Hypothesis properties of the blocks: shape, cost in closed form, composition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import gaslayers
from gaslayers.testing import block_arguments, feature_maps
from tests.blocks.catalogue import CATALOGUE, TOLERANCE
from tests.blocks.costs import COSTS, Cost, unit_sides
from tests.lean.twins import twin_of

CLASSES = [getattr(gaslayers, name) for name in COSTS]


def expected_shape(arguments: dict, x: torch.Tensor, out_channels: int) -> tuple[int, ...]:
    """Stride divides rounding up, a pool of 2 rounding down; the channels come as stated."""
    height, width = x.shape[2:]
    stride = arguments.get("stride", 1)
    if arguments.get("padding") is None:
        height, width = -(-height // stride), -(-width // stride)
    else:
        height, width = unit_sides(arguments, height, width)
    if arguments.get("pool_layer") is not None:
        height, width = height // 2, width // 2
    return (len(x), out_channels, height, width)


def stated_channels(arguments: dict) -> int:
    if "growth_rate" in arguments:
        return arguments["in_channels"] + arguments["num_layers"] * arguments["growth_rate"]
    return arguments["out_channels"]


def multiply_adds(block: nn.Module, x: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        block(x)
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("block_class", CLASSES)
@settings(max_examples=30)
@given(data=st.data())
def test_block_has_the_stated_shape_parameters_and_macs(block_class: type, data) -> None:
    arguments = data.draw(block_arguments(block_class))
    min_side = 1 if arguments.get("pool_layer") is None else 2
    x = data.draw(feature_maps(arguments["in_channels"], dtypes=[torch.float32], min_side=min_side))
    block = block_class(**arguments).eval()
    assert block.out_channels == stated_channels(arguments)
    assert block(x).shape == expected_shape(arguments, x, block.out_channels)
    cost: Cost = COSTS[block_class.__name__](arguments, *x.shape[2:])
    assert sum(parameter.numel() for parameter in block.parameters()) == cost.parameters
    # A lean path may run composed convolutions, which take other operations.
    assert multiply_adds(twin_of(block), x) == len(x) * cost.macs


@settings(max_examples=25)
@given(
    names=st.lists(st.sampled_from(sorted(CATALOGUE)), min_size=2, max_size=4),
    # Halved four times, with a batch norm that trains on more than one value at the end.
    x=feature_maps(min_side=32, max_side=36, max_batch_size=2, dtypes=[torch.float32]),
)
def test_block_feeds_any_other_through_out_channels(names: list[str], x: torch.Tensor) -> None:
    channels = x.shape[1]
    for name in names:
        block = CATALOGUE[name].factory(in_channels=channels)
        x = block(x)
        channels = block.out_channels
        assert x.shape[1] == channels


@pytest.mark.parametrize("name", CATALOGUE)
@settings(max_examples=5)
@given(x=feature_maps(3, min_side=2, dtypes=[torch.float64]), data=st.data())
def test_block_treats_images_apart_in_eval_mode(name: str, x: torch.Tensor, data) -> None:
    block = CATALOGUE[name].factory(in_channels=3).double().eval()
    order = torch.tensor(data.draw(st.permutations(range(len(x)))))
    torch.testing.assert_close(block(x[order]), block(x)[order], **TOLERANCE)
