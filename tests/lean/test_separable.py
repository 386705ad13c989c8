"""Chains of convolution units against the plain composition, and what they keep."""

from __future__ import annotations

import copy
import itertools
import pickle
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from gaslayers import DepthwiseConvNormAct, DepthwiseInceptionBlock
from gaslayers.lean.fused.chain.chain import run_units
from gaslayers.lean.fused.chain.kept_maps import ALLOWANCE, choose_kept, choose_start
from gaslayers.lean.fused.chain.unit_cost import UnitShape
from gaslayers.lean.fused.parts.units import take_apart
from gaslayers.models import build_discriminator
from gaslayers.models.norms import OffsetBatchNorm2d
from gaslayers.testing import feature_maps
from tests.lean.twins import (
    assert_close_twins,
    assert_equal_twins,
    count_draw,
    lean_in,
    module_bytes,
    step,
    twin_of,
)

LEAKY = partial(nn.LeakyReLU, 0.2)
ACTIVATIONS = [None, nn.ReLU, LEAKY]
NORMS = [
    None,
    nn.BatchNorm2d,
    OffsetBatchNorm2d,
    partial(nn.BatchNorm2d, momentum=None, eps=0.1),
    partial(nn.BatchNorm2d, affine=False, track_running_stats=False),
]
GAS2018 = {
    "bias": True,
    "norm_layer": OffsetBatchNorm2d,
    "activation_layer": nn.ReLU,
    "inner_norm_layer": OffsetBatchNorm2d,
    "inner_activation_layer": nn.ReLU,
    "order": "act_norm",
}
# Slices that concatenation hands back go through another kernel, which sums in another order.
TOLERANCES = {
    torch.float32: {"rtol": 1e-4, "atol": 1e-5},
    torch.float64: {"rtol": 1e-10, "atol": 1e-12},
}

flag = st.booleans()
norms = st.sampled_from(NORMS)
activations = st.sampled_from(ACTIVATIONS)


@st.composite
def units(draw: st.DrawFn, **options) -> DepthwiseConvNormAct:
    return DepthwiseConvNormAct(
        3,
        draw(st.integers(1, 7)),
        kernel_size=draw(st.integers(1, 4)),
        stride=draw(st.integers(1, 2)),
        dilation=draw(st.integers(1, 2)),
        bias=draw(st.sampled_from([None, True])),
        norm_layer=draw(norms),
        activation_layer=draw(activations),
        inner_norm_layer=draw(norms),
        inner_activation_layer=draw(activations),
        order=draw(st.sampled_from(["norm_act", "act_norm"])),
        **options,
    )


class _Chain(nn.Module):
    """A separable unit by a chain that keeps the maps it is told to; the plain twin is itself."""

    def __init__(self, unit: nn.Module, keep: tuple[bool, ...]) -> None:
        super().__init__()
        self.unit, self.keep, self.memory_efficient = unit, keep, True

    def forward(self, x: Tensor) -> Tensor:
        parts = self.unit.depthwise, self.unit.pointwise
        if self.memory_efficient:
            return run_units([take_apart(part) for part in parts], x, self.keep)
        return parts[1](parts[0](x))


def freeze(module: nn.Module, data: st.DataObject) -> None:
    for parameter in module.parameters():
        parameter.requires_grad_(data.draw(flag))


def _in_float64_with_norms(x: Tensor, module: nn.Module) -> Tensor:
    """The input, in float64 where the module has a batch norm.

    A norm takes out offset and scale of the convolution before it; the gradient of a bias there is
    zero, and float32 would compare the rounding of sums that cancel. The float64 bound is tighter;
    `test_unit_equals_its_plain_twin` keeps float32.
    """
    has_norm = any(isinstance(inner, nn.BatchNorm2d) for inner in module.modules())
    return x.double() if has_norm else x


@lean_in(0.95)
@settings(max_examples=150)
@given(unit=units(), x=feature_maps(3, min_side=3), keep=st.tuples(flag, flag), data=st.data())
def test_chain_equals_its_plain_twin(unit, x: Tensor, keep, data) -> None:
    x = _in_float64_with_norms(x, unit)
    unit = unit.to(x.dtype).train(data.draw(flag))
    if data.draw(flag):
        unit = unit.to(memory_format=torch.channels_last)
    freeze(unit, data)
    is_frozen = not any(parameter.requires_grad for parameter in unit.parameters())
    assert_close_twins(_Chain(unit, keep), x, input_grad=is_frozen or data.draw(flag))


@lean_in(0.6)
@settings(max_examples=60)
@given(
    unit=st.sampled_from([True, "recompute"]).flatmap(lambda mode: units(memory_efficient=mode)),
    x=feature_maps(3),
    data=st.data(),
)
def test_unit_equals_its_plain_twin(unit, x: Tensor, data) -> None:
    unit = unit.to(x.dtype).train(data.draw(flag))
    freeze(unit, data)
    try:
        expected = step(twin_of(unit), x, input_grad=True)
    except ValueError:  # both refuse alike
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            unit(x)
        return
    # Not bit for bit: a frozen unit that runs on its own may hand back another memory format.
    found = step(unit, x, input_grad=True)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], **TOLERANCES[x.dtype])
    count_draw(found, expected)


@lean_in(0.6)
@settings(max_examples=60)
@given(x=feature_maps(3, min_side=3), data=st.data())
def test_block_of_chains_equals_its_plain_twin(x: Tensor, data) -> None:
    block = DepthwiseInceptionBlock(
        3,
        data.draw(st.integers(4, 9)),
        kernel_sizes=data.draw(st.sampled_from([(1, 3), (3,), (2, 1), (3, 2)])),
        bottleneck=data.draw(flag),
        stride=data.draw(st.integers(1, 2)),
        norm_layer=data.draw(norms),
        activation_layer=data.draw(activations),
        inner_norm_layer=data.draw(norms),
        inner_activation_layer=data.draw(activations),
        width_multiplier=data.draw(st.sampled_from([1.0, 2.0])),
        separable_layer=data.draw(
            st.sampled_from([None, partial(DepthwiseConvNormAct, **GAS2018)])
        ),
        memory_efficient=data.draw(st.sampled_from([True, "recompute"])),
    )
    x = _in_float64_with_norms(x, block)
    block = block.to(x.dtype)
    if data.draw(flag):
        block = block.to(memory_format=torch.channels_last)
    freeze(block, data)
    block.train(data.draw(flag))
    expected, found = (step(net, x, input_grad=True) for net in (twin_of(block), block))
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], **TOLERANCES[x.dtype], msg=name)
    count_draw(found, expected)


def test_running_statistics_move_once_a_pass() -> None:
    unit = DepthwiseConvNormAct(4, 8, **GAS2018, memory_efficient="recompute")
    twin = twin_of(unit)
    for _ in range(3):
        x = torch.randn(4, 4, 6, 6)
        for net in (unit, twin):
            net(x).sum().backward()
    assert unit.pointwise.norm.num_batches_tracked == 3
    for name, value in unit.state_dict().items():
        assert torch.equal(value, twin.state_dict()[name]), name


def as_function(module: nn.Module):
    names = [name for name, _ in module.named_parameters()]

    def function(x: Tensor, *values: Tensor) -> Tensor:
        state = dict(zip(names, values, strict=True))
        return torch.func.functional_call(copy.deepcopy(module), state, (x,))

    return function, tuple(module.parameters())


@pytest.mark.parametrize("order", ["act_norm", "norm_act"])
@pytest.mark.parametrize("training", [True, False])
def test_gradients_and_their_gradients_equal_finite_differences(order: str, training) -> None:
    options = {**GAS2018, "order": order, "activation_layer": LEAKY, "kernel_size": 2}
    unit = DepthwiseConvNormAct(2, 3, **options, memory_efficient="recompute")
    assert unit.execution.path == "unit chain"
    unit = unit.double().train(training)
    function, parameters = as_function(unit)
    x = torch.randn(3, 2, 4, 3, dtype=torch.float64, requires_grad=True)
    gradcheck(function, (x, *parameters), fast_mode=True)
    gradgradcheck(function, (x, *parameters), fast_mode=True)


def test_gradient_penalty_equals_the_plain_one() -> None:
    unit = DepthwiseConvNormAct(4, 8, **GAS2018, memory_efficient="recompute").double()
    x = torch.randn(4, 4, 5, 5, dtype=torch.float64)
    results = []
    for net in (unit, twin_of(unit)):
        image = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(net(image).square().sum(), image, create_graph=True)
        (slope.flatten(1).norm(dim=1) - 1).square().mean().backward()
        results.append({name: p.grad for name, p in net.named_parameters()})
    for name, value in results[0].items():
        torch.testing.assert_close(value, results[1][name], rtol=1e-9, atol=1e-10)


def test_second_gradient_is_right_where_a_weight_depends_on_the_input() -> None:
    unit = DepthwiseConvNormAct(2, 2, activation_layer=nn.ReLU, memory_efficient="recompute")
    unit = unit.double()

    def run(net: nn.Module, x: Tensor) -> list[Tensor]:
        weights = {"pointwise.conv.weight": x.mean() * net.pointwise.conv.weight}
        y = torch.func.functional_call(net, weights, (x,))
        (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        return [first, *torch.autograd.grad(first.square().sum(), x)]

    x = torch.rand(2, 2, 3, 3, dtype=torch.float64)
    results = [run(net, x.clone().requires_grad_()) for net in (unit, twin_of(unit))]
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, **TOLERANCES[torch.float64])


def test_a_batch_of_gradients_comes_back_at_once() -> None:
    unit = DepthwiseConvNormAct(2, 3, **GAS2018, memory_efficient="recompute")
    x = torch.randn(2, 2, 4, 4, requires_grad=True)
    grads = torch.randn(3, 2, 3, 4, 4)
    y = unit(x)
    (found,) = torch.autograd.grad(y, x, grads, is_grads_batched=True, retain_graph=True)
    for value, grad in zip(found, grads, strict=True):
        (expected,) = torch.autograd.grad(y, x, grad, retain_graph=True)
        torch.testing.assert_close(value, expected, **TOLERANCES[torch.float32])


def test_chain_notices_an_input_changed_in_place() -> None:
    unit = DepthwiseConvNormAct(2, 4, **GAS2018, memory_efficient="recompute")
    x = torch.randn(2, 2, 4, 4)
    y = unit(x)
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_output_gradient_is_left_as_it_is() -> None:
    unit = DepthwiseConvNormAct(2, 4, activation_layer=nn.ReLU, memory_efficient="recompute")
    y = unit(torch.randn(2, 2, 4, 4))
    grad = torch.randn_like(y)
    given_grad = grad.clone()
    y.backward(grad)
    assert torch.equal(grad, given_grad)


# What is kept.


@pytest.mark.parametrize("trained", [True, False])
def test_recompute_keeps_the_input_alone(trained) -> None:
    unit = DepthwiseConvNormAct(8, 32, **GAS2018, memory_efficient="recompute")
    unit.requires_grad_(trained)
    x = torch.randn(4, 8, 16, 16, requires_grad=True)
    statistics = 2 * 4 * (8 + 32)  # mean and inverse standard deviation of both norms, float32
    assert module_bytes(unit, x) == x.nbytes + statistics
    assert unit.execution.reason == "of 2 units, 0 maps are kept beside the input"


def test_default_keeps_less_than_plain_and_no_more_than_it_may() -> None:
    unit = DepthwiseConvNormAct(8, 32, **GAS2018)
    x = torch.randn(4, 8, 16, 16)
    maps = x.nbytes
    assert module_bytes(twin_of(unit), x) >= 7 * maps  # u, r1, b1, and r2 of four times the width
    assert module_bytes(unit, x) <= 5.1 * maps  # u and r2


def test_frozen_units_without_anything_between_keep_nothing() -> None:
    unit = DepthwiseConvNormAct(4, 8).requires_grad_(requires_grad=False)
    x = torch.randn(2, 4, 8, 8, requires_grad=True)
    assert module_bytes(unit, x) == 0
    assert unit.execution.path == "frozen convolution"


@pytest.mark.parametrize("memory_efficient", [True, "recompute"])
def test_discriminator_of_2018_keeps_a_small_share(memory_efficient) -> None:
    network = build_discriminator("depthwise_inception", memory_efficient=memory_efficient)
    network = network.to(memory_format=torch.channels_last)
    x = torch.randn(32, 1, 28, 28)
    assert module_bytes(network, x) <= module_bytes(twin_of(network), x) / 9
    network.requires_grad_(requires_grad=False)
    x.requires_grad_()
    assert module_bytes(network, x) <= module_bytes(twin_of(network), x) / 18


# Which path runs.


def test_hook_on_an_inner_module_turns_the_unit_plain() -> None:
    for name in ("depthwise", "depthwise.conv", "pointwise.norm", "pointwise.activation"):
        unit = DepthwiseConvNormAct(2, 4, **GAS2018)
        calls = []
        unit.get_submodule(name).register_forward_hook(lambda *_, calls=calls: calls.append(1))
        assert unit.execution.path == "plain"
        assert "hook" in unit.execution.reason
        unit(torch.randn(2, 2, 4, 4))
        assert calls == [1]


def test_hook_on_an_inner_module_turns_the_block_plain() -> None:
    for name in ("branches.1", "branches.1.reduce", "branches.1.conv", "branches.1.conv.depthwise"):
        block = DepthwiseInceptionBlock(2, 6, inner_activation_layer=nn.ReLU)
        assert block.execution.is_lean
        calls = []
        block.get_submodule(name).register_forward_hook(lambda *_, calls=calls: calls.append(1))
        assert "hook" in block.execution.reason
        block(torch.randn(2, 2, 4, 4))
        assert calls == [1]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"memory_efficient": False}, "memory_efficient=False"),
        ({"inner_activation_layer": nn.SiLU}, "SiLU cannot be undone"),
        ({"norm_layer": partial(nn.GroupNorm, 1)}, "GroupNorm is no BatchNorm2d"),
        ({"conv_layer": type("Own", (nn.Conv2d,), {})}, "Own is no plain Conv2d"),
        ({"conv_layer": partial(nn.Conv2d, padding_mode="circular")}, "no plain zeros"),
    ],
)
def test_unit_says_why_it_is_plain(options: dict, reason: str) -> None:
    unit = DepthwiseConvNormAct(2, 4, **{**GAS2018, **options})
    assert unit.execution.path == "plain"
    assert reason in unit.execution.reason


def test_unit_is_plain_under_autocast_in_half_precision_and_in_a_transform() -> None:
    unit = DepthwiseConvNormAct(2, 4, **GAS2018)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert unit.execution.reason == "autocast is on"
        assert unit(torch.randn(2, 2, 4, 4)).dtype == torch.bfloat16
    seen = []
    torch.func.vmap(lambda x: seen.append(unit.execution.reason) or x)(torch.ones(2))
    assert seen == ["a torch.func transform is active"]
    assert "bfloat16" in unit.bfloat16().execution.reason


def test_unit_compiles_as_one_graph() -> None:
    unit = DepthwiseConvNormAct(2, 4, **GAS2018).double()
    x = torch.randn(2, 2, 4, 4, dtype=torch.float64)
    twin = twin_of(unit)
    torch.compiler.reset()
    compiled = torch.compile(unit, fullgraph=True, backend="aot_eager")
    compiled(x).square().sum().backward()
    twin(x).square().sum().backward()
    for found, expected in zip(unit.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, **TOLERANCES[torch.float64])
    torch.compiler.reset()


def test_foreign_separable_layer_is_called() -> None:
    class Own(DepthwiseConvNormAct):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * 2

    block = DepthwiseInceptionBlock(2, 4, separable_layer=Own)
    assert block.execution.reason == "the branch's Own is not to be taken apart"
    x = torch.randn(2, 2, 4, 4)
    branch = block.branches[1]
    units = branch.conv.depthwise, branch.conv.pointwise
    expected = units[1](units[0](branch.reduce(x))) * 2
    assert torch.equal(block(x)[:, -2:], expected)


def test_empty_batch_runs() -> None:
    unit = DepthwiseConvNormAct(2, 4, **GAS2018)
    assert unit(torch.randn(0, 2, 4, 4)).shape == (0, 4, 4, 4)


def test_lean_and_plain_units_share_their_state() -> None:
    unit = DepthwiseConvNormAct(2, 4, **GAS2018)
    assert list(unit.state_dict()) == list(twin_of(unit).state_dict())
    again = pickle.loads(pickle.dumps(unit))
    assert_equal_twins(again, torch.randn(2, 2, 4, 4))
    assert again.execution == unit.execution


# The cost model.


def separable(width: int, out_channels: int, **options) -> list[UnitShape]:
    options = {"norm": True, "activation": True, **options}
    return [
        UnitShape(width, width, 9, groups=width, **options),
        UnitShape(width, out_channels, 1, **options),
    ]


shapes = st.builds(
    UnitShape,
    in_channels=st.just(8),
    out_channels=st.just(8),
    area=st.sampled_from([1, 9]),
    groups=st.sampled_from([1, 8]),
    stride=st.integers(1, 2),
    norm=flag,
    activation=flag,
    norm_first=flag,
    trained=flag,
)
rows = st.lists(shapes, min_size=1, max_size=3).map(tuple)
conditions = st.fixed_dictionaries({"sliced": flag, "input_is_kept": flag})


@given(rows, conditions)
def test_choice_pays_in_values_and_stays_within_the_allowance(row, condition: dict) -> None:
    found = choose_start(row, **condition)
    if found is not None:
        start, choice = found
        assert len(choice.keep) == len(row) - start
        assert choice.time <= 1 + ALLOWANCE
        assert choice.values <= choice.plain_values


@given(rows, conditions)
def test_more_allowance_never_keeps_more(row, condition: dict) -> None:
    choices = [choose_kept(row, **condition, allowance=a) for a in (0.0, 0.1, 1.0, float("inf"))]
    values = [float("inf") if choice is None else choice.values for choice in choices]
    assert all(more >= less for more, less in itertools.pairwise(values))
    assert choices[-1] is not None
    assert not any(choices[-1].keep)


def test_model_knows_the_separable_branch_of_2018() -> None:
    choice = choose_kept(separable(16, 64))
    assert choice.plain_values == 16 + 16 + 16 + 64  # u, r1, b1 and r2
    assert choice.keep == (False, True)  # the depthwise half is cheap, the wide 1x1 is not
    assert choose_kept(separable(16, 64), sliced=True).keep == (False, False)
    # A bare separable convolution is as good as it is: all that it keeps is dear to compute.
    assert choose_start(tuple(separable(16, 16, norm=False, activation=False))) is None


@given(rows, flag)
def test_slices_only_make_chains_more_worthwhile(row, input_is_kept) -> None:
    dense, sliced = (
        choose_kept(row, sliced=sliced, input_is_kept=input_is_kept) for sliced in (False, True)
    )
    assert dense is None or sliced.values <= dense.values
