"""TransitionBlock against torchvision's with copied weights."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torchvision.models.densenet import _Transition

from gaslayers import DenseBlock, InceptionBlock, TransitionBlock
from tests.blocks.catalogue import TOLERANCE


def test_block_equals_torchvisions_with_copied_weights() -> None:
    peer = _Transition(6, 3).double()
    block = TransitionBlock(6).double()
    nn.init.uniform_(peer.norm.weight)
    nn.init.uniform_(peer.norm.bias, -0.5, 0.5)
    block.load_state_dict(peer.state_dict())
    x = torch.randn(3, 6, 7, 6, dtype=torch.float64)
    torch.testing.assert_close(block(x), peer(x), **TOLERANCE)
    torch.testing.assert_close(block.eval()(x), peer.eval()(x), **TOLERANCE)


@pytest.mark.parametrize(
    ("in_channels", "options", "out_channels"),
    [
        (40, {}, 20),
        (7, {}, 3),
        (10, {"compression": 0.3}, 3),
        (10, {"compression": 1}, 10),
        (1, {}, 1),
        (40, {"out_channels": 4}, 4),
    ],
)
def test_out_channels_are_given_or_compressed(
    in_channels: int, options: dict, out_channels: int
) -> None:
    block = TransitionBlock(in_channels, **options)
    assert block.out_channels == out_channels
    assert block(torch.zeros(2, in_channels, 4, 4)).shape == (2, out_channels, 2, 2)


def test_layer_is_given_both_sizes_and_stands_before_the_pool() -> None:
    block = TransitionBlock(
        6,
        4,
        layer=partial(InceptionBlock, bottleneck=False),
        norm_layer=None,
        activation_layer=None,
    )
    x = torch.randn(2, 6, 7, 7)
    torch.testing.assert_close(block(x), nn.functional.avg_pool2d(block.conv(x), 2))
    assert (block.conv.in_channels, block.conv.out_channels) == (6, 4)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"in_channels": 0}, ValueError, r"`in_channels` must be >= 1, got 0"),
        ({"out_channels": 0}, ValueError, r"`out_channels` must be >= 1, got 0"),
        ({"compression": 0.0}, ValueError, r"`compression` must be > 0\.0, got 0\.0"),
        ({"compression": 1.5}, ValueError, r"`compression` must be <= 1\.0, got 1\.5"),
        ({"compression": None}, TypeError, r"`compression` must be a number, got None"),
        ({"pool_layer": 2}, TypeError, r"`pool_layer` must be a callable that builds a layer or"),
        ({"layer": nn.ReLU()}, TypeError, r"`layer` must be a callable that builds a layer or"),
        ({"norm_layer": 1}, TypeError, r"`norm_layer` must be a callable that builds a layer or"),
        ({"activation_layer": 1}, TypeError, r"`activation_layer` must be a callable that builds"),
    ],
)
def test_wrong_argument_is_refused(arguments: dict, error: type, message: str) -> None:
    with pytest.raises(error, match="TransitionBlock: " + message):
        TransitionBlock(**{"in_channels": 3, **arguments})


def test_wrong_input_is_refused() -> None:
    message = r"TransitionBlock: expected input of shape \(N, 3, H, W\), got \(2, 4, 5, 5\)\."
    with pytest.raises(ValueError, match=message):
        TransitionBlock(3)(torch.zeros(2, 4, 5, 5))


def test_layer_of_another_width_is_refused() -> None:
    # A dense block takes a growth rate as its second argument: it comes out wider than asked.
    message = r"TransitionBlock: `layer` must build a layer with out_channels \(=4\), got 24"
    with pytest.raises(ValueError, match=message):
        TransitionBlock(8, 4, layer=DenseBlock)
