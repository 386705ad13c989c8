"""The contract of `gaslayers.testing` on every public block, and what it prints and stores."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import gaslayers
from gaslayers.blocks import __all__ as public_blocks
from gaslayers.testing import check_block
from tests.blocks.catalogue import CATALOGUE

IN_CHANNELS = 3


def build(name: str) -> nn.Module:
    return CATALOGUE[name].factory(in_channels=IN_CHANNELS)


@pytest.mark.parametrize("name", CATALOGUE)
def test_block_keeps_the_contract(name: str) -> None:
    check_block(build(name))


@pytest.mark.parametrize("name", CATALOGUE)
def test_block_state_dict_has_the_promised_names(name: str) -> None:
    assert list(build(name).state_dict()) == CATALOGUE[name].state.split()


def test_catalogue_holds_every_public_block() -> None:
    assert {entry.factory.func.__name__ for entry in CATALOGUE.values()} == set(public_blocks)


@pytest.mark.parametrize("name", CATALOGUE)
def test_block_draws_itself_anew_as_at_construction(name: str) -> None:
    torch.manual_seed(1)
    expected = build(name).state_dict()
    block = build(name)
    for value in block.state_dict().values():
        value.fill_(7)
    torch.manual_seed(1)
    block.reset_parameters()
    for key, value in block.state_dict().items():
        torch.testing.assert_close(value, expected[key], rtol=0, atol=0)


def test_block_draws_a_parametrised_weight_anew() -> None:
    def conv_layer(*sizes, **options) -> nn.Module:
        return nn.utils.parametrizations.spectral_norm(nn.Conv2d(*sizes, **options))

    plain = gaslayers.ConvNormAct(2, 3)
    normed = gaslayers.ConvNormAct(2, 3, conv_layer=conv_layer)
    for block in (plain, normed):
        torch.manual_seed(1)
        block.reset_parameters()
    drawn = normed.conv.parametrizations.weight.original
    assert isinstance(drawn, nn.Parameter)
    torch.testing.assert_close(drawn.data, plain.conv.weight.data, rtol=0, atol=0)


@pytest.mark.parametrize("name", CATALOGUE)
def test_block_is_built_on_the_default_device_and_dtype(name: str) -> None:
    with torch.device("meta"):
        block = build(name)
    assert {value.device.type for value in block.state_dict().values()} == {"meta"}


@pytest.mark.parametrize(
    ("block", "text"),
    [
        (gaslayers.ConvNormAct(3, 4), "3, 4"),
        (
            gaslayers.ConvNormAct(3, 4, norm_layer=nn.BatchNorm2d, order="act_norm"),
            "3, 4, norm_layer=nn.BatchNorm2d, order='act_norm'",
        ),
        (
            gaslayers.DenseBlock(3, 2, layer=gaslayers.InceptionBlock, norm_layer=None),
            "3, 2, layer=InceptionBlock, norm_layer=None",
        ),
        (
            CATALOGUE["down_gas2018"].factory(in_channels=3),
            "3, 4, block=partial(InceptionBlock, bottleneck=False), norm_layer=None, "
            "pool_layer=partial(nn.MaxPool2d, ceil_mode=True)",
        ),
        (
            CATALOGUE["conv_even_strided_norm_act"].factory(in_channels=3),
            "3, 4, kernel_size=4, stride=2, dilation=2, norm_layer=nn.BatchNorm2d, "
            "activation_layer=partial(nn.LeakyReLU, 0.2)",
        ),
    ],
)
def test_block_prints_as_the_shortest_call_that_builds_it(block: nn.Module, text: str) -> None:
    assert block.extra_repr() == text
