"""Frozen Inception branches as one function, against their plain twins."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from gaslayers import DepthwiseConvNormAct, DepthwiseInceptionBlock, InceptionBlock
from gaslayers.testing import feature_maps
from tests.lean.twins import assert_equal_twins, lean_in, module_bytes, twin_of

BLOCKS = [InceptionBlock, DepthwiseInceptionBlock]


def frozen(block: nn.Module) -> nn.Module:
    return block.requires_grad_(False)


def runs_as_one(y: Tensor) -> bool:
    return type(y.grad_fn).__name__ == "FrozenConvolutionsBackward"


@lean_in(0.6)
@given(
    make=st.sampled_from(BLOCKS),
    x=feature_maps(20, max_batch_size=3, min_side=4),
    kernel_sizes=st.sampled_from([(1, 3), (3, 1, 2), (5,), (4, 3)]),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    bottleneck=st.booleans(),
    bias=st.booleans(),
    layout=st.sampled_from([torch.contiguous_format, torch.channels_last]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_frozen_branches_equal_their_plain_twin_bit_for_bit(
    make, x, kernel_sizes, stride, dilation, bottleneck, bias, layout, dtype
) -> None:
    block = make(
        20,
        24,
        kernel_sizes=kernel_sizes,
        stride=stride,
        dilation=dilation,
        bottleneck=bottleneck,
        bias=bias,
    )
    block = frozen(block).to(dtype=dtype, memory_format=layout)
    x = x.to(dtype=dtype, memory_format=layout)
    assert_equal_twins(block, x)


@pytest.mark.parametrize("make", BLOCKS)
def test_frozen_branches_run_as_one_and_keep_nothing(make) -> None:
    block, x = frozen(make(64, 64)), torch.randn(2, 64, 6, 6, requires_grad=True)
    assert runs_as_one(block(x))
    assert module_bytes(block, x) == 0
    assert block.execution.path == "frozen convolution"


@pytest.mark.parametrize("make", BLOCKS)
def test_second_derivatives(make) -> None:
    block = frozen(make(32, 32)).double()
    x = torch.randn(1, 32, 3, 3, dtype=torch.float64, requires_grad=True)
    assert runs_as_one(block(x))
    # Linear in x, so the gradient of a function of it has to be curved by that function.
    assert torch.autograd.gradgradcheck(lambda x: block(x).pow(3)[:, ::7], (x,), fast_mode=True)


@pytest.mark.parametrize(
    ("change", "keeps"),
    [
        (lambda block: next(block.parameters()).requires_grad_(), "trained"),
        (lambda block: setattr(block, "memory_efficient", False), "switched off"),
        (lambda block: block.branches[1].register_forward_hook(lambda *_: None), "hooked"),
    ],
)
@pytest.mark.parametrize("make", BLOCKS)
def test_other_branches_do_not(make, change, keeps: str) -> None:
    block, x = frozen(make(64, 64)), torch.randn(2, 64, 6, 6, requires_grad=True)
    assert runs_as_one(block(x))
    change(block)
    assert not runs_as_one(block(x)), keeps


@pytest.mark.parametrize("make", BLOCKS)
def test_norms_and_activations_are_not_left_out(make) -> None:
    block = frozen(make(64, 64, norm_layer=nn.BatchNorm2d, activation_layer=nn.ReLU))
    x = torch.randn(2, 64, 6, 6, requires_grad=True)
    assert not runs_as_one(block(x))
    assert torch.equal(block(x), twin_of(block)(x))


def test_a_branch_that_cannot_be_taken_apart_is_not_left_out() -> None:
    block = frozen(DepthwiseInceptionBlock(64, 64))
    block.branches[1].conv.__class__ = type("Other", (DepthwiseConvNormAct,), {})
    x = torch.randn(2, 64, 6, 6, requires_grad=True)
    assert not runs_as_one(block(x))
    assert torch.equal(block(x), twin_of(block)(x))


def test_compiles_whole() -> None:
    block, x = frozen(InceptionBlock(64, 64)), torch.randn(2, 64, 6, 6, requires_grad=True)
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), block(x))


def test_groups_are_those_of_the_layer() -> None:
    block = frozen(InceptionBlock(64, 64, conv_layer=partial(nn.Conv2d, groups=1)))
    for branch in block.branches:
        conv = branch.conv.conv
        grouped = nn.Conv2d(
            conv.in_channels, conv.out_channels, conv.kernel_size, padding=conv.padding, groups=4
        )
        branch.conv.conv = grouped.requires_grad_(False)
    x = torch.randn(2, 64, 6, 6)
    assert runs_as_one(block(x.clone().requires_grad_()))
    assert_equal_twins(block, x)
