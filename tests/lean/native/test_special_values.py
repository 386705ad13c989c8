"""Zeros of both signs, infinities and NaNs through activation and pooling: PyTorch's bits."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gaslayers import DownBlock
from gaslayers.lean.batch_norm import BatchNormCall
from gaslayers.lean.fused.pool.activation_pool import activate_and_pool
from gaslayers.lean.fused.pool.choice import code_pool
from gaslayers.lean.native import availability, kernels, norm_pool, pool_choice
from gaslayers.lean.native.compiling import library_path
from gaslayers.lean.native.kernels import Kernels
from tests.lean.native.maps import LAST
from tests.lean.native.needs import CAPABILITIES, needs_norm_kernels, rounds_alike
from tests.lean.twins import twin_of

FIRST = torch.contiguous_format
INTEGERS = {torch.float32: torch.int32, torch.float64: torch.int64}
# Of either sign, with some bits of their own and without.
NANS = {
    torch.float32: (0x7FC00000, -0x400000, 0x7FC01234, -0x3FEDCC),
    torch.float64: (0x7FF8 << 48, -(0x8 << 48), (0x7FF8 << 48) + 0x1234, -(0x8 << 48) + 0x1234),
}
INF = float("inf")


def bits(x: Tensor) -> Tensor:
    return x.detach().contiguous().view(INTEGERS[x.dtype])


def equal_bits(found: Tensor, expected: Tensor) -> None:
    assert found.dtype == expected.dtype
    assert torch.equal(bits(found), bits(expected))


def special(shape: tuple[int, ...], dtype: torch.dtype, seed: int, *, nans: bool = True) -> Tensor:
    """A map of few values, so that most windows hold several of the same and of their opposites."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.tensor([-0.0, 0.0, -0.0, 0.0, -1.0, 1.0, -INF, INF, -1e-30], dtype=dtype)
    x = values[torch.randint(len(values), shape, generator=generator)]
    if nans:
        payloads = torch.tensor(NANS[dtype], dtype=INTEGERS[dtype])
        drawn = payloads[torch.randint(len(payloads), shape, generator=generator)]
        there = torch.rand(shape, generator=generator) < 0.1
        x = torch.where(there, drawn, bits(x)).view(dtype)
    return x


class Plain(nn.Module):
    """The layers one after the other."""

    def __init__(self, slope: float, pool: nn.Module) -> None:
        super().__init__()
        self.slope, self.pool = slope, pool

    def forward(self, x: Tensor) -> Tensor:
        if self.slope != 1:
            x = F.relu(x) if self.slope == 0 else F.leaky_relu(x, self.slope)
        return self.pool(x)


def activation_of(slope: float) -> nn.Module:
    return {0.0: nn.ReLU(), 1.0: nn.Identity()}.get(slope, nn.LeakyReLU(slope))


def in_layout(x: Tensor, layout: torch.memory_format) -> Tensor:
    """In this memory format, also where a single channel does not tell."""
    if layout == FIRST:
        return x.contiguous()
    return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


POOLS = st.builds(
    lambda kind, size, ceil_mode: kind(size, ceil_mode=ceil_mode),
    st.sampled_from([nn.MaxPool2d, nn.MaxPool2d, nn.AvgPool2d]),
    st.sampled_from([2, 2, 2, 3]),
    st.booleans(),
)


@settings(max_examples=300)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 70), st.integers(3, 9), st.integers(3, 41)),
    slope=st.sampled_from([0.0, 0.2, 1.0]),
    pool=POOLS,
    layouts=st.tuples(*[st.sampled_from([LAST, FIRST])] * 2),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    by_kernels=st.booleans(),
    nans=st.booleans(),
    differentiable=st.booleans(),
    seed=st.integers(0, 1000),
)
@example((2, 33, 5, 7), 0.0, nn.MaxPool2d(2), (LAST, LAST), torch.float32, True, True, False, 0)
@example((2, 3, 6, 40), 0.0, nn.MaxPool2d(2), (FIRST, FIRST), torch.float32, False, False, False, 0)
@example((2, 3, 28, 30), 0.0, nn.MaxPool2d(2), (FIRST, LAST), torch.float32, False, True, False, 0)
@example((9, 3, 6, 40), 0.0, nn.AvgPool2d(2), (FIRST, FIRST), torch.float32, False, True, False, 0)
def test_both_passes_have_the_bits_of_the_layers(
    shape, slope, pool, layouts, dtype, by_kernels, nans, differentiable, seed
) -> None:
    x = in_layout(special(shape, dtype, seed, nans=nans), layouts[0]).requires_grad_()
    expected = Plain(slope, pool)(x)
    grad = in_layout(special(tuple(expected.shape), dtype, seed + 1, nans=nans), layouts[1])
    (expected_grad,) = torch.autograd.grad(expected, x, grad)
    with mock.patch.object(availability, "_off", not by_kernels):
        found = activate_and_pool(x, activation_of(slope), pool)
        equal_bits(found, expected)
        (found_grad,) = torch.autograd.grad(found, x, grad, create_graph=differentiable)
    equal_bits(found_grad, expected_grad)


@settings(max_examples=60)
@given(
    shape=st.tuples(
        st.integers(1, 2), st.sampled_from([1, 5, 64, 70]), st.integers(2, 7), st.integers(2, 37)
    ),
    slope=st.sampled_from([0.0, 0.2, 1.0]),
    ceil_mode=st.booleans(),
    layout=st.sampled_from([LAST, FIRST]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    capability=st.sampled_from(CAPABILITIES),
    seed=st.integers(0, 1000),
)
@needs_norm_kernels[0]
def test_every_library_has_the_bits_of_the_layers(
    shape, slope, ceil_mode, layout, dtype, capability, seed
) -> None:
    pool = nn.MaxPool2d(2, ceil_mode=ceil_mode)
    x = in_layout(special(shape, dtype, seed), layout).requires_grad_()
    expected = Plain(slope, pool)(x)
    grad = in_layout(special(tuple(expected.shape), dtype, seed + 1), layout)
    (expected_grad,) = torch.autograd.grad(expected, x, grad)
    loaded = mock.Mock(kernels=Kernels(library_path(capability)))
    with mock.patch.object(kernels, "load", return_value=loaded), torch.no_grad():
        way = code_pool(x, slope, 2, ceil_mode=ceil_mode)
        found, kept = way.forward(x)
        equal_bits(found, expected)
        equal_bits(way.backward(grad, kept), expected_grad)


@needs_norm_kernels[0]
@needs_norm_kernels[1]
def test_the_pooling_kernels_pass_the_examination_that_lets_them_run() -> None:
    """Where they do not, operators pool, and the tests above compare PyTorch with itself."""
    assert pool_choice.are_exact()


def equal_but_for_bits_of_nans(found: Tensor, expected: Tensor) -> None:
    """Which NaN a sum of several makes is the processor's choice, by the order of its operands."""
    assert torch.equal(found.isnan(), expected.isnan())
    there = ~expected.isnan()
    equal_bits(found[there], expected[there])


def assert_norm_and_pooling_equal(
    x: Tensor, weight: Tensor, bias: Tensor, slope: float, grad: Tensor, *, ceil_mode: bool = False
) -> None:
    lines = weight, bias, None, None
    pool = nn.MaxPool2d(2, ceil_mode=ceil_mode)
    normed, *moments = torch.native_batch_norm(x, *lines, True, 0.1, 1e-3)
    normed.requires_grad_()
    expected = Plain(slope, pool)(normed)
    call = BatchNormCall(*lines, training=True, momentum=0.1, eps=1e-3)
    pooled, packed, own = norm_pool.run(x, call, slope, ceil_mode=ceil_mode)
    equal_but_for_bits_of_nans(pooled, expected)

    grad = grad.contiguous(memory_format=LAST)
    (through,) = torch.autograd.grad(expected, normed, grad)
    wanted = (True, True, True)
    expected_grads = torch.ops.aten.native_batch_norm_backward(
        through, x, weight, None, None, *moments, True, 1e-3, list(wanted)
    )
    found = norm_pool.run_backward(grad, packed, x, own, weight, bias, slope, wanted)
    for one, other in zip(found, expected_grads, strict=True):
        equal_but_for_bits_of_nans(one, other)


@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("channels", [8, 19, 63])
@needs_norm_kernels[0]
@needs_norm_kernels[1]
def test_a_norm_and_its_pooling_have_the_bits_of_the_layers(slope, ceil_mode, channels) -> None:
    """By weights and biases that make special values of common ones."""
    generator = torch.Generator().manual_seed(channels)
    x = torch.randn(3, channels, 5, 7, generator=generator).contiguous(memory_format=LAST)
    weight = torch.tensor([0.0, -0.0, 1.0, -1.0, INF, 0.0, 0.0])[torch.arange(channels) % 7]
    bias = torch.tensor([-0.0, 0.0, -0.0, -INF, 1.0, float("nan"), INF, 0.0, -5.0])
    bias = bias[torch.arange(channels) % 9]
    shape = (3, channels, 3, 4) if ceil_mode else (3, channels, 2, 3)
    grad = special(shape, torch.float32, 1, nans=False).clamp(-2, 2)  # infinities make NaNs of all
    assert_norm_and_pooling_equal(x, weight, bias, slope, grad, ceil_mode=ceil_mode)


@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("weight", [1.0, -1.0])
@needs_norm_kernels[0]
@needs_norm_kernels[1]
def test_a_norm_and_its_pooling_have_the_signs_of_the_layers_zeros(slope, weight) -> None:
    """Behind a map whose mean is zero, which leaves zeros what they are beside other values."""
    half = torch.tensor([-1.0, -0.0, 0.0])[torch.randint(3, (2, 19, 6, 8))]
    x = torch.cat([half, -half]).contiguous(memory_format=LAST)
    lines = torch.full((19,), weight), torch.full((19,), -0.0)
    grad = torch.full((4, 19, 3, 4), -0.0)
    assert_norm_and_pooling_equal(x, *lines, slope, grad)


@rounds_alike
@needs_norm_kernels[0]
@pytest.mark.parametrize("values", ["zeros", "an infinity", "a NaN", "an infinite weight"])
@pytest.mark.parametrize("activation", [nn.ReLU, lambda: nn.LeakyReLU(0.2), None])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_stage_that_reads_an_image_has_the_bits_of_its_layers(values, activation, frozen) -> None:
    stage = DownBlock(1, 32, norm_layer=None, activation_layer=activation).to(memory_format=LAST)
    stage.requires_grad_(not frozen)
    x = in_layout(special((2, 1, 9, 12), torch.float32, 3, nans=False).clamp(-1, 1), LAST)
    weight = dict(stage.named_parameters())["body.conv.weight"].data
    if values == "zeros":  # of both signs, in sums and windows
        weight.mul_(torch.randint(0, 2, weight.shape))
        dict(stage.named_parameters())["body.conv.bias"].data.fill_(-0.0)
    elif values == "an infinite weight":
        weight[3, 0, 0, 0] = INF
    else:
        x[0, 0, 4, 5] = INF if values == "an infinity" else float("nan")
    results = []
    for block in (stage, twin_of(stage)):
        own = x.clone(memory_format=torch.preserve_format).requires_grad_()
        y = block(own)
        grad = in_layout(torch.randn(y.shape, generator=torch.Generator().manual_seed(0)), LAST)
        results.append((y, *torch.autograd.grad(y, own, grad)))
    for found, expected in zip(*results, strict=True):
        equal_but_for_bits_of_nans(found, expected)
