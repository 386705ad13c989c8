"""Branches of a dense layer that run as one convolution."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from gaslayers import DenseBlock, InceptionBlock, TransitionBlock
from gaslayers.lean.activations import IDENTITY
from gaslayers.lean.convolution import ConvolutionGeometry
from gaslayers.lean.fused.dense.join import join_branches
from gaslayers.lean.fused.inception.composition_cost import VECTOR, joining_pays, vector_of
from gaslayers.lean.fused.parts.branch import Branch
from gaslayers.lean.fused.parts.convolution import Convolution, KernelSlots
from gaslayers.lean.fused.parts.norm_activation import NormActivation
from tests.lean.twins import (
    assert_close_twins,
    assert_equal_twins,
    lean_in,
    module_bytes,
    twin_of,
)

APART = partial(InceptionBlock, bottleneck=False)


def grouped(*arguments: Any, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(*arguments, **options | {"groups": 2})


class Convolutions(TorchDispatchMode):
    """Record the shape of each convolution's kernel, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.forward: list[tuple[int, ...]] = []
        self.backward: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution.default:
            self.forward.append(tuple(args[1].shape))
        if func is torch.ops.aten.convolution_backward.default:
            self.backward.append(tuple(args[2].shape))
        return func(*args, **(kwargs or {}))


def kernels_of(layer: Any, **options: Any) -> Convolutions:
    """The kernels of one step of a dense block of a single layer, from 4 channels to 4 more."""
    block = DenseBlock(4, 4, num_layers=1, layer=layer, **options)
    with Convolutions() as seen:
        block(torch.randn(2, 4, 6, 6)).sum().backward()
    return seen


@pytest.mark.parametrize("options", [{}, {"dilation": 2}, {"kernel_sizes": (1, 2, 3, 5)}])
def test_bare_branches_are_one_convolution(options) -> None:
    size = max(options.get("kernel_sizes", (3,)))
    layer = partial(APART, **options)
    if "kernel_sizes" in options:
        layer = partial(layer, branch_channels=(1, 1, 1, 1))
    seen = kernels_of(layer)
    assert seen.forward == seen.backward == [(4, 4, size, size)]


@pytest.mark.parametrize(
    "layer",
    [
        partial(APART, memory_efficient=False),
        partial(APART, norm_layer=nn.BatchNorm2d),
        partial(APART, activation_layer=nn.ReLU),
        partial(APART, conv_layer=grouped),
        partial(APART, kernel_sizes=(2, 3), dilation=3),  # between two cells
        InceptionBlock,
    ],
)
def test_other_branches_are_not(layer) -> None:
    assert len(kernels_of(layer).forward) > 1


def test_kernels_of_two_dilations_are_not() -> None:
    tensors = [torch.zeros(1, 4, 5, 5), torch.zeros(1, 4, 3, 3)]
    bare = NormActivation(None, IDENTITY)

    def branch(slot: int, padding: int, dilation: int) -> Branch:
        geometry = ConvolutionGeometry(padding=(padding,) * 2, dilation=(dilation,) * 2)
        convolution = Convolution(geometry, (KernelSlots(slot, None),))
        return Branch((convolution,), (bare,), (True,))

    assert join_branches([branch(0, 2, 1), branch(1, 1, 1)], tensors) is not None
    assert join_branches([branch(0, 2, 1), branch(1, 2, 2)], tensors) is None


@pytest.mark.parametrize("weights", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("maps", [torch.contiguous_format, torch.channels_last])
def test_output_is_laid_out_as_plain(maps, weights) -> None:
    block = TransitionBlock(4, 4, layer=APART, pool_layer=None).to(memory_format=weights)
    x = torch.randn(2, 4, 6, 6).contiguous(memory_format=maps)
    assert block(x).stride() == twin_of(block)(x).stride()


def test_wide_branches_are_not() -> None:
    block = DenseBlock(16, 64, num_layers=1, layer=APART)
    with Convolutions() as seen:
        block(torch.randn(2, 16, 6, 6))
    assert len(seen.forward) == 2


def test_without_joining_the_block_equals_plain_bit_for_bit() -> None:
    layer = partial(APART, memory_efficient=False)
    block = DenseBlock(4, 4, num_layers=2, layer=layer, norm_layer=None)
    assert_equal_twins(block, torch.randn(3, 4, 7, 7))


@lean_in(0.9)
@given(
    kernel_sizes=st.sampled_from([(1, 3), (3, 1), (2, 3), (1, 5, 3), (4, 1)]),
    dilation=st.integers(1, 2),
    bias=st.sampled_from([True, False, None]),
    frozen=st.sets(st.integers(0, 9)),
    input_grad=st.booleans(),
)
def test_joined_branches_equal_plain(kernel_sizes, dilation, bias, frozen, input_grad) -> None:
    torch.manual_seed(0)
    layer = partial(APART, kernel_sizes=kernel_sizes, dilation=dilation, bias=bias)
    block = DenseBlock(3, 6, num_layers=2, layer=layer).double()
    for index, parameter in enumerate(block.parameters()):
        nn.init.normal_(parameter, 0.3, 0.5)
        parameter.requires_grad_(index not in frozen)
    x = torch.randn(2, 3, 9, 8, dtype=torch.float64)
    assert_close_twins(block, x, input_grad=input_grad)


def test_joining_keeps_no_kernel() -> None:
    x = torch.randn(2, 4, 6, 6)
    joined, apart = (
        DenseBlock(4, 4, num_layers=2, layer=partial(APART, memory_efficient=is_joined))
        for is_joined in (True, False)
    )
    assert module_bytes(joined, x) == module_bytes(apart, x)


@pytest.mark.parametrize(
    ("out_channels", "vector", "pays"),
    [((8, 8), 16, True), ((8, 8), 8, False), ((4, 4), 8, True), ((16, 16), 16, False)],
)
def test_joining_pays_where_it_fills_a_vector(out_channels, vector, pays) -> None:
    assert joining_pays(out_channels, (1, 3), in_channels=48, vector=vector) == pays


def test_a_vector_is_that_of_the_machine() -> None:
    single, double = (vector_of(torch.zeros(1, dtype=d)) for d in (torch.float32, torch.float64))
    if torch.backends.cpu.get_cpu_capability() == "AVX512":
        assert (single, double) == (16, 8)
    else:
        assert (single, double) == (VECTOR, VECTOR)
    assert vector_of(torch.zeros(1, device="meta")) == VECTOR
