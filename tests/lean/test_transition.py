"""The lean path of TransitionBlock against its plain twin."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gaslayers import (
    ConvNormAct,
    DenseBlock,
    DepthwiseInceptionBlock,
    InceptionBlock,
    TransitionBlock,
)
from gaslayers.lean.layout import layout_of
from gaslayers.lean.native.norm_choice import take
from gaslayers.testing import feature_maps
from tests.lean.test_dense import ACTIVATIONS, LEAKY, NORMS, SEPARABLE, penalty_step
from tests.lean.twins import (
    assert_close_twins,
    assert_equal_twins,
    lean_in,
    module_bytes,
    step,
    twin_of,
)

LEAN = "pre-activation"
LAYERS: dict[str, Any] = {
    "1x1": None,
    "3x3": partial(nn.Conv2d, kernel_size=3, padding=1),
    "inception": partial(InceptionBlock, bottleneck=False),
    "depthwise inception": partial(
        DepthwiseInceptionBlock,
        separable_layer=partial(SEPARABLE, activation_layer=LEAKY, order="act_norm"),
    ),
}
POOLS: dict[str, Any] = {
    "average": nn.AvgPool2d,
    "ceil": partial(nn.AvgPool2d, ceil_mode=True),
    "max": nn.MaxPool2d,
    "overlapping": partial(nn.AvgPool2d, stride=1),
    "none": None,
}


def build(in_channels: int = 4, out_channels: int = 4, **options: Any) -> TransitionBlock:
    """A block with numbers that no channel shares."""
    torch.manual_seed(0)
    block = TransitionBlock(in_channels, out_channels, **options)
    for parameter in block.parameters():
        nn.init.normal_(parameter, 0.3, 0.5)
    return block


@lean_in(0.95)
@settings(max_examples=60)
@given(
    x=feature_maps(4, max_batch_size=4, min_side=2, memory_formats=("contiguous", "channels_last")),
    layer=st.sampled_from(sorted(LAYERS)),
    norm=st.sampled_from(sorted(NORMS)),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    pool=st.sampled_from(sorted(POOLS)),
    memory_efficient=st.sampled_from([True, "recompute"]),
    training=st.booleans(),
    input_grad=st.booleans(),
    data=st.data(),
)
def test_block_equals_its_plain_twin(
    x: Tensor, layer, norm, activation, pool, memory_efficient, training, input_grad, data
) -> None:
    if norm == "none" and activation == "in place":
        activation = "relu"
    block = build(
        layer=LAYERS[layer],
        norm_layer=NORMS[norm],
        activation_layer=ACTIVATIONS[activation],
        pool_layer=POOLS[pool],
        memory_efficient=memory_efficient,
    ).to(x.dtype)
    block.train(training)
    parameters = list(block.parameters())
    frozen = data.draw(st.lists(st.booleans(), min_size=len(parameters), max_size=len(parameters)))
    for parameter, is_frozen in zip(parameters, frozen, strict=True):
        parameter.requires_grad_(not is_frozen)
    # Where nothing asks for a gradient there is no graph to tell which path ran.
    input_grad = input_grad or all(frozen)
    assert block.execution.path == LEAN
    # The gradient of its last norm is a slice, which kernels of ours add up as a whole map.
    adds_otherwise = (
        layer == "depthwise inception" and layout_of(x) == torch.channels_last and take(x, ())
    )
    if adds_otherwise or layer == "inception":  # whose branches run as one convolution
        assert_close_twins(block.double(), x.double(), input_grad=input_grad)
    else:
        assert_equal_twins(block, x, input_grad=input_grad)


@pytest.mark.parametrize("grad_layout", [torch.contiguous_format, torch.channels_last])
def test_gradient_that_comes_to_a_last_norm_is_left_as_it_is(grad_layout) -> None:
    unit = partial(ConvNormAct, kernel_size=1, norm_layer=nn.BatchNorm2d)
    block = build(8, 24, layer=unit, pool_layer=None)
    assert block.execution.path == LEAN
    x = torch.randn(4, 8, 9, 9).contiguous(memory_format=torch.channels_last).requires_grad_()
    grad = torch.randn(4, 24, 9, 9).contiguous(memory_format=grad_layout)
    before = grad.clone()
    found, expected = (
        torch.autograd.grad(module(x), [x, *module.parameters()], grad)
        for module in (block, twin_of(block))
    )
    assert torch.equal(grad, before)
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("layer", ["1x1", "depthwise inception"])
def test_first_and_second_derivatives(layer: str) -> None:
    block = build(2, 2, layer=LAYERS[layer], activation_layer=LEAKY).double()
    x = torch.randn(2, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    names, parameters = zip(*block.named_parameters(), strict=True)

    def run(x: Tensor, *values: Tensor) -> Tensor:
        buffers = {name: buffer.clone() for name, buffer in block.named_buffers()}
        state = dict(zip(names, values, strict=True))
        return torch.func.functional_call(block, {**state, **buffers}, (x,))

    inputs = (x, *(p.detach().clone().requires_grad_() for p in parameters))
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True)


def test_gradient_penalty_step_equals_plain() -> None:
    block = build(activation_layer=LEAKY)
    critic = nn.Sequential(block, nn.Flatten(), nn.Linear(16, 1)).double()
    twin = twin_of(critic)
    real, fake = torch.randn(2, 5, 4, 4, 4, dtype=torch.float64)
    found, expected = penalty_step(critic, real, fake), penalty_step(twin, real, fake)
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-10, atol=1e-12)


def test_after_a_dense_block_nothing_of_a_transition_is_kept_but_moments() -> None:
    network = nn.Sequential(DenseBlock(8, 8, num_layers=2), TransitionBlock(24))
    x = torch.zeros(2, 8, 6, 6, requires_grad=True)
    block_alone = module_bytes(network[0], x)
    moments = 2 * 24 * 4
    assert module_bytes(network, x) == block_alone + moments
    plain = module_bytes(twin_of(network), x) - module_bytes(twin_of(network[0]), x)
    activated, output = 2 * 24 * 6 * 6 * 4, 2 * 12 * 6 * 6 * 4
    assert plain == 2 * activated + output + 2 * 24 * 4


def test_average_pooling_keeps_nothing() -> None:
    block = build(norm_layer=None, activation_layer=None)
    x = torch.zeros(2, 4, 6, 6, requires_grad=True)
    assert module_bytes(block, x) == x.nbytes
    assert module_bytes(twin_of(block), x) == 2 * x.nbytes


def test_frozen_transition_keeps_its_input_and_moments_alone() -> None:
    block = build().requires_grad_(False)
    x = torch.zeros(2, 4, 6, 6, requires_grad=True)
    moments = 2 * 4 * 4
    assert module_bytes(block, x) == x.nbytes + moments


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"memory_efficient": False}, "memory_efficient=False"),
        ({"norm_layer": partial(nn.GroupNorm, 1)}, "GroupNorm is no BatchNorm2d"),
        ({"activation_layer": nn.SiLU}, "SiLU cannot be undone"),
        ({"layer": partial(nn.Conv2d, kernel_size=2, stride=2)}, "Conv2d changes height or width"),
        (
            {"norm_layer": None, "activation_layer": partial(nn.ReLU, inplace=True)},
            "ReLU changes in place what others read",
        ),
    ],
)
def test_block_runs_plain_and_says_why(options: dict[str, Any], reason: str) -> None:
    block = build(**options)
    assert block.execution.path == "plain"
    assert reason in block.execution.reason
    x = torch.randn(2, 4, 5, 5)
    expected, found = (step(b, x, input_grad=False) for b in (twin_of(block), block))
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


@pytest.mark.parametrize("part", ["norm", "activation", "conv", "pool"])
def test_a_hook_on_an_inner_module_runs(part: str) -> None:
    block, calls = build(), []
    getattr(block, part).register_forward_hook(lambda *_: calls.append(1))
    block(torch.randn(2, 4, 5, 5))
    assert calls == [1]


@pytest.mark.parametrize("shape", [(0, 4, 4, 4), (1, 4, 2, 2)])
def test_small_batches_equal_plain(shape: tuple[int, ...]) -> None:
    block = build()
    x = torch.randn(shape)
    expected, found = (step(b, x, input_grad=True) for b in (twin_of(block), block))
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_equals_plain(dtype: torch.dtype) -> None:
    block, x = build(), torch.randn(2, 4, 6, 6)
    with torch.autocast("cpu", dtype=dtype):
        expected, found = (step(b, x, input_grad=True) for b in (twin_of(block), block))
    assert found["output"].dtype == dtype
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


def test_an_input_changed_in_place_before_backward_is_refused() -> None:
    block = build()
    x = torch.randn(2, 4, 4, 4, requires_grad=True)
    inner = x * 1
    output = block(inner)
    inner.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


def test_state_is_that_of_plain_and_survives_a_copy() -> None:
    block = build()
    assert block.state_dict().keys() == build(memory_efficient=False).state_dict().keys()
    x = torch.randn(2, 4, 4, 4)
    assert torch.equal(copy.deepcopy(block)(x), block(x))


def test_compiles_whole_and_transforms() -> None:
    block = build().eval()
    x = torch.randn(2, 4, 4, 4)
    torch._dynamo.reset()
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), block(x))
    gradient = torch.func.grad(lambda x: block(x).sum())(x)
    torch.testing.assert_close(gradient, torch.func.grad(lambda x: twin_of(block)(x).sum())(x))
