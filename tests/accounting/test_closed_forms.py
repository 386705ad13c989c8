"""The closed forms of the blocks against both counting engines and formulas written out apart."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import gaslayers
from gaslayers import (
    ConvNormAct,
    DenseBlock,
    DepthwiseInceptionBlock,
    DownBlock,
    InceptionBlock,
    TransitionBlock,
    count,
)
from gaslayers.models import CASES, build_discriminator
from gaslayers.testing import block_arguments, feature_maps
from tests.blocks.costs import COSTS

CLASSES = [getattr(gaslayers, name) for name in COSTS]


@pytest.mark.parametrize("block_class", CLASSES)
@settings(max_examples=8)
@given(data=st.data())
def test_closed_form_is_what_fvcore_and_the_second_engine_count(block_class, data) -> None:
    arguments = data.draw(block_arguments(block_class))
    min_side = 1 if arguments.get("pool_layer") is None else 2
    x = data.draw(feature_maps(arguments["in_channels"], dtypes=[torch.float32], min_side=min_side))
    block = block_class(**arguments).eval()
    macs, params = block.expected_macs(*x.shape[2:]), block.expected_params()
    report = count(block, x)  # the engines verify each other
    assert (report.macs, report.trainable) == (len(x) * macs, params)
    cost = COSTS[block_class.__name__](arguments, *x.shape[2:])
    assert (macs, params) == (cost.macs, cost.parameters)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("variant", ["as_coded", "modern"])
def test_every_stage_of_the_discriminators_has_a_closed_form(case, variant) -> None:
    network = build_discriminator(case, variant=variant)
    report = count(network, torch.zeros(2, 1, 28, 28)).per_sample
    sizes: list[tuple[int, int]] = []
    for stage in network.stages:
        stage.register_forward_pre_hook(lambda _, args: sizes.append(tuple(args[0].shape[2:])))
    network(torch.zeros(1, 1, 28, 28))
    pairs = list(zip(network.stages, sizes, strict=True))
    assert [report.by_module[f"stages.{i}"].macs for i in range(len(pairs))] == [
        stage.expected_macs(*size) for stage, size in pairs
    ]
    classifier = network.classifier.weight.numel()
    assert sum(stage.expected_macs(*size) for stage, size in pairs) + classifier == report.macs
    assert sum(s.expected_params() for s, _ in pairs) + classifier + 1 == report.trainable


@pytest.mark.parametrize(
    ("norm_layer", "params"),
    [
        (nn.BatchNorm2d, 16),
        (partial(nn.BatchNorm2d, affine=False), 0),
        (partial(nn.GroupNorm, 2), 16),
        (nn.InstanceNorm2d, 0),
        (partial(nn.InstanceNorm2d, affine=True), 16),
        (None, 0),
    ],
)
def test_expected_params_know_the_norms(norm_layer, params) -> None:
    block = ConvNormAct(4, 8, norm_layer=norm_layer, activation_layer=nn.PReLU)
    bias = 8 if norm_layer is None else 0
    assert block.expected_params() == 4 * 8 * 9 + bias + params + 1
    assert block.expected_params() == count(block, torch.zeros(2, 4, 6, 6)).trainable


def spectral(*args, **kwargs):
    return nn.utils.parametrizations.spectral_norm(nn.Conv2d(*args, **kwargs))


def old_spectral(*args, **kwargs):
    return nn.utils.spectral_norm(nn.Conv2d(*args, **kwargs))


def without_stride(in_channels, out_channels, kernel_size, **kwargs):
    return nn.Conv2d(in_channels, out_channels, kernel_size, **kwargs | {"stride": 1})


def two_layers(in_channels, out_channels):
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1), nn.ReLU())


class OddNorm(nn.Module):
    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))


@pytest.mark.filterwarnings("ignore:.*spectral_norm.* is deprecated:FutureWarning")
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (partial(ConvNormAct, conv_layer=spectral), r"ConvNormAct: `conv_layer` must build a pl"),
        (partial(ConvNormAct, conv_layer=old_spectral), r"ConvNormAct: `conv_layer` must build"),
        (
            partial(ConvNormAct, stride=2, conv_layer=without_stride),
            r"must build a plain nn.Conv2d\(in_channels=4, .*stride=2, .*got 'Conv2d'. No closed",
        ),
        (partial(InceptionBlock, conv_layer=spectral), r"ConvNormAct: `conv_layer` must build"),
        (
            partial(DepthwiseInceptionBlock, separable_layer=lambda i, o, **_: two_layers(i, o)),
            r"DepthwiseInceptionBlock: `separable_layer` must build a layer with `expected_macs`",
        ),
        (partial(DenseBlock, layer=two_layers), r"DenseBlock: `layer` must build a layer with"),
        (partial(TransitionBlock, layer=two_layers), r"TransitionBlock: `layer` must build a la"),
        (partial(DownBlock, block=two_layers), r"DownBlock: `block` must build .*'Sequential'"),
    ],
)
def test_expected_macs_refuse_what_no_formula_covers(build, message) -> None:
    block = build(4, 8)
    with pytest.raises(ValueError, match=message):
        block.expected_macs(6, 6)
    count(block, torch.zeros(2, 4, 6, 6))  # which the error names as the way out


def test_expected_params_refuse_a_norm_that_no_formula_covers() -> None:
    block = ConvNormAct(4, 8, norm_layer=OddNorm)
    with pytest.raises(ValueError, match=r"`norm_layer` must build a layer of known .*'OddNorm'"):
        block.expected_params()


@pytest.mark.parametrize("block_class", CLASSES)
def test_expected_macs_check_the_size(block_class) -> None:
    block = block_class(4, 8)
    with pytest.raises(ValueError, match=r"`height` must be >= 1, got 0"):
        block.expected_macs(0, 4)
    with pytest.raises(TypeError, match=r"`width` must be an int, got 4.0"):
        block.expected_macs(4, 4.0)


def test_expected_macs_take_a_users_plain_convolution() -> None:
    block = DownBlock(4, 8, block=partial(nn.Conv2d, kernel_size=(3, 1), stride=2, dilation=2))
    assert 3 * block.expected_macs(9, 8) == count(block, torch.zeros(3, 4, 9, 8)).macs
    assert block.expected_params() == count(block, torch.zeros(3, 4, 9, 8)).trainable
