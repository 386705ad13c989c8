"""InceptionBlock with composed and joined kernels against its plain twin."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gaslayers import InceptionBlock
from gaslayers.lean.fused.inception import composition as inception_plan
from gaslayers.lean.fused.inception import kernels as inception
from gaslayers.lean.fused.inception.composition_cost import (
    BranchShape,
    CompositionChoice,
    choose,
    ones_pay,
)
from gaslayers.testing import feature_maps
from tests.lean.twins import assert_close_twins, lean_in, module_bytes, summands_of, twin_of

MEBIBYTE = 2**20


@pytest.fixture(scope="module")
def forced():
    """Compose and join whatever can be, at any size and whatever it costs."""

    def choose_all(shapes, *, in_channels, stride) -> CompositionChoice:
        del in_channels, stride
        composed = tuple(shape.inner_channels is not None for shape in shapes)
        joined = forced.join and all(shape.joins for shape in shapes)
        return CompositionChoice(composed=composed, joined=joined, min_pixels=0, time=0.0)

    forced = pytest.MonkeyPatch()
    forced.join = forced.ones = True
    forced.setattr(inception_plan, "choose", choose_all)
    forced.setattr(inception, "ones_pay", lambda *_: forced.ones)
    yield forced
    forced.undo()


@lean_in(0.6)
@settings(max_examples=120)
@given(
    x=feature_maps(3, min_side=2),
    out_channels=st.integers(3, 7),
    kernel_sizes=st.sampled_from([(1, 3), (1, 2), (3, 1, 4), (1, 5), (3,), (2, 3)]),
    bottleneck=st.booleans(),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    bias=st.sampled_from([None, True, False]),
    join=st.booleans(),
    ones=st.booleans(),
    frozen=st.integers(0, 15),
    input_grad=st.booleans(),
)
def test_composed_block_equals_its_plain_twin(
    forced,
    x: Tensor,
    out_channels: int,
    kernel_sizes,
    bottleneck,
    stride,
    dilation,
    bias,
    join,
    ones,
    frozen,
    input_grad,
) -> None:
    forced.join, forced.ones = join, ones
    block = InceptionBlock(
        3,
        out_channels,
        kernel_sizes=kernel_sizes,
        bottleneck=bottleneck,
        stride=stride,
        dilation=dilation,
        bias=bias,
    ).to(x.dtype)
    for index, parameter in enumerate(block.parameters()):
        parameter.requires_grad_(not frozen >> (index % 4) & 1)
    summands = summands_of(block, x, input_grad=input_grad)
    assert_close_twins(block, x, input_grad=input_grad, summands=summands)


def test_forced_paths_are_those_that_are_meant(forced) -> None:
    block = InceptionBlock(3, 6, kernel_sizes=(1, 3))
    forced.join = True
    assert block.execution.path == "one convolution"
    forced.join = False
    assert "composed convolution" in block.execution.path


@pytest.mark.parametrize("ones", [True, False])
@pytest.mark.parametrize("join", [True, False])
def test_first_and_second_derivatives(forced, join: bool, ones: bool) -> None:
    forced.join, forced.ones = join, ones
    block = InceptionBlock(2, 4, kernel_sizes=(1, 2)).double()
    names, parameters = zip(*block.named_parameters(), strict=True)

    def run(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(block, dict(zip(names, values, strict=True)), (x,))

    x = torch.randn(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    inputs = (x, *(parameter.detach().clone().requires_grad_() for parameter in parameters))
    assert torch.autograd.gradcheck(run, inputs)
    assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True)


@pytest.mark.parametrize("ones", [True, False])
def test_bias_of_the_inner_convolution_is_exact_at_the_border(forced, ones: bool) -> None:
    forced.join, forced.ones = True, ones
    block = InceptionBlock(1, 2).double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.fill_(1.0)
        # 1x1: 1. Then the 3x3 sums the ones that lie inside the image: 4, 6 or 9, plus its bias.
    found = block(torch.zeros(1, 1, 3, 3, dtype=torch.float64))[0, 1]
    expected = [[5.0, 7.0, 5.0], [7.0, 10.0, 7.0], [5.0, 7.0, 5.0]]
    assert found.tolist() == expected


def test_stem_keeps_its_input_and_a_channel_of_ones() -> None:
    x = torch.randn(32, 3, 64, 64)
    block = InceptionBlock(3, 64)
    assert block.execution.path == "one convolution"
    assert module_bytes(block, x) <= 2.1 * MEBIBYTE
    assert module_bytes(twin_of(block), x) >= 17.4 * MEBIBYTE
    # The ones are there for the gradient of the inner bias.
    block.branches[1].requires_grad_(False)
    assert module_bytes(block, x) <= 1.6 * MEBIBYTE


@pytest.mark.parametrize(
    "change",
    [
        lambda block: setattr(block, "memory_efficient", False),
        lambda block: block.branches[1].reduce.conv.register_forward_hook(print),
        lambda block: nn.utils.parametrizations.spectral_norm(block.branches[1].reduce.conv),
    ],
)
def test_block_runs_plain_where_composing_would_be_wrong(change) -> None:
    block = InceptionBlock(3, 64)
    change(block)
    assert "convolution" not in block.execution.path


def test_norm_or_activation_between_prevents_composition() -> None:
    for options in ({"norm_layer": nn.BatchNorm2d}, {"activation_layer": partial(nn.ReLU)}):
        assert "composed" not in InceptionBlock(3, 64, **options).execution.path


def test_composition_is_chosen_only_where_it_saves_time() -> None:
    narrow = (BranchShape(32, 1), BranchShape(32, 3, inner_channels=32, inner_bias=True))
    wide = (BranchShape(128, 1), BranchShape(128, 3, inner_channels=32, inner_bias=True))
    assert choose(narrow, in_channels=3, stride=1).pays
    assert not choose(wide, in_channels=256, stride=1).composed[1]
    for shapes, channels in ((narrow, 3), (wide, 256)):
        assert choose(shapes, in_channels=channels, stride=1).time <= 1.0


def test_ones_are_carried_where_the_input_has_few_channels() -> None:
    assert ones_pay(16, 1, 3)
    assert ones_pay(64, 3, 3)
    assert not ones_pay(64, 64, 3)  # nine vectors of channels for eight
    assert not ones_pay(2, 3, 3)


def test_composing_small_kernels_has_to_pay_for_its_operators() -> None:
    shapes = (BranchShape(16, 1), BranchShape(16, 3, inner_channels=16, inner_bias=True))
    choice = choose(shapes, in_channels=16, stride=1)
    assert choice.composed == (False, True)
    assert 32 * 14 * 14 < choice.min_pixels < 32 * 32 * 32
