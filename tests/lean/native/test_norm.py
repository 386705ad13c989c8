"""The batch-norm kernels against PyTorch's operators, to the bit."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from gaslayers import ConvNormAct, DenseBlock, DepthwiseInceptionBlock, DownBlock
from gaslayers.blocks import TransitionBlock
from gaslayers.lean.batch_norm import BatchNormCall
from gaslayers.lean.native import availability, norm, norm_choice
from gaslayers.lean.native.kernels import kernels
from gaslayers.lean.native.norm_call import suits
from tests.lean.native.needs import needs_kernels
from tests.lean.twins import twin_of

LAST = torch.channels_last
EPS = 1e-3

pytestmark = needs_kernels


def _activate(x: Tensor, slope: float) -> Tensor:
    if slope == 1:
        return x
    return F.relu(x) if slope == 0 else F.leaky_relu(x, slope)


def _slice_of_wider(x: Tensor) -> Tensor:
    """``x`` as some channels of a map that has others."""
    wide = torch.cat([x, torch.full_like(x, 7), x[:, :3]], dim=1)
    return wide.contiguous(memory_format=LAST)[:, : x.shape[1]]


@settings(max_examples=150)
@given(
    shape=st.tuples(
        st.integers(1, 4),
        st.sampled_from([2, 3, 8, 12, 13, 24, 40, 63, 776]),
        st.integers(1, 9),
        st.integers(1, 9),
    ).filter(lambda shape: shape[2] * shape[3] > 1 and shape[0] * shape[2] * shape[3] > 2),
    slopes=st.tuples(*[st.sampled_from([0.0, 0.2, 1.0])] * 2),
    has_weight=st.booleans(),
    has_bias=st.booleans(),
    sliced=st.booleans(),
    has_passed=st.booleans(),
    overwrite=st.booleans(),
    wanted=st.tuples(*[st.booleans()] * 3),
    special=st.sampled_from([None, float("nan"), float("inf")]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 1000),
)
@example(
    (3, 40, 6, 7), (0.2, 0.0), True, True, True, True, False, (True,) * 3, None, torch.float32, 0
)
@example(
    (3, 40, 6, 7), (0.0, 0.2), False, True, True, False, True, (True,) * 3, None, torch.float32, 0
)
def test_values_statistics_and_gradients_are_those_of_pytorch(
    shape,
    slopes,
    has_weight,
    has_bias,
    sliced,
    has_passed,
    overwrite,
    wanted,
    special,
    dtype,
    seed,
) -> None:
    before, behind = slopes
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(3, *shape, generator=generator, dtype=dtype)
    x, grad, passed = (y.contiguous(memory_format=LAST) for y in maps)
    if special is not None:
        x[0, 0, 0, 0] = special
    lines = torch.randn(4, shape[1], generator=generator, dtype=dtype)
    weight, bias = (lines[0] if has_weight else None), (lines[1] if has_bias else None)
    running, moved = lines[2:].unbind(), lines[2:].clone().unbind()

    activated = _activate(x, before)
    normed, *moments = torch.native_batch_norm(activated, weight, bias, *running, True, 0.3, EPS)
    expected = _activate(normed, behind)
    call = BatchNormCall(weight, bias, *moved, training=True, momentum=0.3, eps=EPS)
    assert norm_choice.take_call(x, call)
    kept, found, own_moments = norm.run(
        x.clone(memory_format=torch.preserve_format),
        call,
        slope_before=before,
        slope_behind=behind,
        overwrite=overwrite,
    )
    equal = partial(torch.testing.assert_close, rtol=0, atol=0, equal_nan=True)
    equal([kept, found], [activated, expected])
    equal([*own_moments, *moved], [*moments, *running])

    expected_grad = grad
    if behind != 1:
        backward = torch.ops.aten.leaky_relu_backward
        expected_grad = (
            torch.ops.aten.threshold_backward(grad, expected, 0)
            if behind == 0
            else backward(grad, normed, behind, False)
        )
    grads = list(
        torch.ops.aten.native_batch_norm_backward(
            expected_grad, activated, weight, None, None, *moments, True, EPS, [True] * 3
        )
    )
    if before == 0:
        grads[0] = torch.ops.aten.threshold_backward(grads[0], activated, 0)
    elif before != 1:
        grads[0] = torch.ops.aten.leaky_relu_backward(grads[0], activated, before, True)
    if has_passed:
        grads[0] = passed + grads[0]
    read = activated
    if sliced:
        read, grad, passed = map(_slice_of_wider, (activated, grad, passed))
    again = norm.normalize(read, own_moments, weight, bias, behind)
    equal(again, expected)
    found_grads = norm.normalize_backward(
        grad,
        read,
        own_moments,
        weight,
        bias,
        slope_before=before,
        slope_behind=behind,
        wanted=wanted,
        passed=passed if has_passed else None,
        overwrite=overwrite,
    )
    assert [found is not None for found in found_grads] == list(wanted)
    for found_grad, expected_one in zip(found_grads, grads, strict=True):
        if found_grad is not None:
            equal(found_grad, expected_one)
    assert found_grads[0] is None or found_grads[0].is_contiguous(memory_format=LAST)


@pytest.mark.parametrize("capability", ["default", "avx2", "avx512"])
def test_each_library_rounds_as_pytorch_does_on_its_processor(capability: str) -> None:
    script = """
import torch
from gaslayers.lean.native import norm_choice
raise SystemExit(not norm_choice.take(torch.zeros(1), ()))
"""
    environment = os.environ | {"ATEN_CPU_CAPABILITY": capability}
    run = [sys.executable, "-c", script]
    assert subprocess.run(run, env=environment, check=False).returncode == 0


def test_where_pytorch_rounds_otherwise_nothing_is_taken(monkeypatch) -> None:
    assert norm_choice.take(torch.zeros(1), ())
    norm_choice._are_exact.cache_clear()
    original = torch.native_batch_norm

    def otherwise(*args):
        y, *moments = original(*args)
        return torch.nextafter(y, y + 1), *moments

    monkeypatch.setattr(torch, "native_batch_norm", otherwise)
    assert not norm_choice.take(torch.zeros(1), ())
    norm_choice._are_exact.cache_clear()


def test_the_first_question_may_come_among_fake_tensors() -> None:
    norm_choice._are_exact.cache_clear()
    with FakeTensorMode():
        assert norm_choice.take(torch.zeros(1), ())
    with torch.device("meta"):
        norm_choice._are_exact.cache_clear()
        assert norm_choice.take(torch.zeros(1, device="cpu"), ())


def test_kernels_stay_on_the_cpu_where_another_device_is_the_default() -> None:
    stage = DownBlock(8, 8).to(memory_format=LAST)
    x = torch.randn(2, 8, 4, 4).contiguous(memory_format=LAST)
    twin = twin_of(stage)
    with torch.device("meta"):
        assert torch.equal(stage(x), twin(x))


def test_what_the_kernels_do_not_take() -> None:
    x = torch.zeros(2, 8, 4, 4).contiguous(memory_format=LAST)
    assert suits(x)
    assert suits(_slice_of_wider(x))
    assert not suits(x.contiguous())
    assert not suits(x[:, :1])
    assert not suits(x[:, :, ::2])
    assert not suits(x[:, :, :1, :1])
    assert not suits(x[:1, :, :2, :1]) or torch.get_num_threads() < 2
    assert norm_choice.take(x, [torch.zeros(8), None])
    assert not norm_choice.take(x, [torch.zeros(8, dtype=torch.float64)])
    assert not norm_choice.take(x, [torch.zeros(16)[::2]])
    assert not norm_choice.take(x, [torch.zeros(8).as_subclass(type("Tagged", (Tensor,), {}))])
    call = BatchNormCall(None, None, None, None, training=True, momentum=0.1, eps=EPS)
    assert norm_choice.take_call(x, call)
    assert not norm_choice.take_call(_slice_of_wider(x), call)
    with availability.switched_off():
        assert not norm_choice.take_call(x, call)


def test_no_memory_is_an_error(monkeypatch) -> None:
    monkeypatch.setitem(kernels()._functions, ("measure", torch.float32), lambda *_: 1)
    x = torch.zeros(2, 8, 4, 4).contiguous(memory_format=LAST)
    with pytest.raises(MemoryError, match="measure"):
        norm.measure(x, torch.empty(3, 8), EPS)


def test_fake_tensors_have_the_shapes_and_bytes_of_real_ones() -> None:
    x = torch.zeros(2, 8, 4, 4).contiguous(memory_format=LAST)
    call = BatchNormCall(None, None, None, None, training=True, momentum=0.1, eps=EPS)

    def made(x: Tensor) -> list[Tensor]:
        kept, y, moments = norm.run(x, call, slope_before=0.0)
        grads = norm.normalize_backward(x, x, moments, None, None, wanted=(True,) * 3)
        return [kept, y, moments, norm.normalize(x, moments, None, None, 0.0), *grads]

    with FakeTensorMode() as fakes:
        fake = made(fakes.from_tensor(x))
    for one, real in zip(fake, made(x), strict=True):
        assert (one.shape, one.stride(), one.dtype) == (real.shape, real.stride(), real.dtype)


def _step(module: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """One step whose gradient comes in channels_last."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    y = module(x)
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)
    y.backward(grad.contiguous(memory_format=LAST))
    grads = {name: parameter.grad for name, parameter in module.named_parameters()}
    return {"y": y.detach(), "x": x.grad, **grads, **dict(module.named_buffers())}


@pytest.fixture
def calls(monkeypatch) -> list[str]:
    """The kernels that were called, in order."""
    called: list[str] = []
    original = type(kernels()).run

    def spy(self, name, *args):
        called.append(name)
        original(self, name, *args)

    monkeypatch.setattr(type(kernels()), "run", spy)
    return called


class _Halving(nn.Module):
    def channel_scale(self) -> Tensor:
        return torch.full((8,), 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.channel_scale().view(1, -1, 1, 1)


BLOCKS = {
    "3x3": partial(DenseBlock, 8, 8, num_layers=3),
    "bottleneck": partial(DenseBlock, 8, 8, num_layers=3, bottleneck_factor=2),
    "transition": partial(TransitionBlock, 16),
    "stage": partial(DownBlock, 8, 16),
    "recomputed stage": partial(DownBlock, 8, 16, memory_efficient="recompute"),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", sorted(BLOCKS))
def test_a_block_by_kernels_equals_its_plain_twin_to_the_bit(calls, kind, dtype) -> None:
    torch.manual_seed(0)
    block = BLOCKS[kind](norm_layer=nn.BatchNorm2d).to(dtype).to(memory_format=LAST)
    channels = getattr(block, "in_channels", 8)
    x = torch.randn(4, channels, 6, 8, dtype=dtype).contiguous(memory_format=LAST)
    expected = _step(twin_of(block), x)
    found = _step(block, x)
    assert "measure" in calls
    assert "normalize_backward" in calls
    for name, tensor in found.items():
        if name.endswith("running_var"):  # a rounding more, in float64
            torch.testing.assert_close(tensor, expected[name], rtol=2e-15, atol=1e-16)
        else:
            assert torch.equal(tensor, expected[name]), name


def test_a_constant_in_place_of_a_norm_takes_the_kernels(calls) -> None:
    torch.manual_seed(0)
    block = DenseBlock(8, 8, num_layers=1, norm_layer=lambda _channels: _Halving())
    block = block.to(memory_format=LAST)
    x = torch.randn(4, 8, 6, 8).contiguous(memory_format=LAST)
    expected = _step(twin_of(block), x)
    found = _step(block, x)
    assert calls == ["normalize", "normalize", "normalize_backward"]
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


TOLERANCES = {torch.float32: 1e-6, torch.float64: 1e-13}


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_a_norm_whose_gradient_is_a_slice_equals_pytorchs_to_rounding(calls, dtype) -> None:
    torch.manual_seed(0)
    separable = partial(
        DepthwiseInceptionBlock,
        separable_layer=partial(
            ConvNormAct, norm_layer=nn.BatchNorm2d, activation_layer=nn.ReLU, order="act_norm"
        ),
    )
    block = DenseBlock(16, 16, num_layers=2, layer=separable, norm_layer=nn.BatchNorm2d)
    block = block.to(dtype).to(memory_format=LAST)
    x = torch.randn(4, 16, 6, 8, dtype=dtype).contiguous(memory_format=LAST)
    expected = _step(twin_of(block), x)
    found = _step(block, x)
    assert "normalize_backward" in calls
    for name, tensor in expected.items():
        size = max(tensor.abs().max().item(), 1e-3 * expected["x"].abs().max().item())
        torch.testing.assert_close(
            found[name], tensor, rtol=0, atol=TOLERANCES[dtype] * size, msg=name
        )


@pytest.mark.parametrize("kind", sorted(BLOCKS))
def test_second_derivatives_and_batches_of_gradients(kind) -> None:
    torch.manual_seed(0)
    block = BLOCKS[kind](norm_layer=nn.BatchNorm2d, activation_layer=partial(nn.LeakyReLU, 0.2))
    block = block.double().to(memory_format=LAST)
    channels = getattr(block, "in_channels", 8)
    x = torch.randn(2, channels, 2, 4, dtype=torch.float64).contiguous(memory_format=LAST)
    x.requires_grad_()
    assert torch.autograd.gradgradcheck(block, (x,))
    y, inputs = block(x), [x, *block.parameters()]
    grads = torch.randn(3, *y.shape, dtype=y.dtype)
    batched = torch.autograd.grad(y, inputs, grads, is_grads_batched=True, retain_graph=True)
    for i, grad in enumerate(grads):
        singly = torch.autograd.grad(y, inputs, grad, retain_graph=True)
        torch.testing.assert_close([several[i] for several in batched], list(singly))


def test_a_hooked_or_replaced_norm_is_called_itself(calls) -> None:
    x = torch.randn(2, 8, 4, 4).contiguous(memory_format=LAST)
    stage = DownBlock(8, 8).to(memory_format=LAST)
    stage(x)
    assert "measure" in calls
    hooked, replaced = copy.deepcopy(stage), copy.deepcopy(stage)
    seen = []
    hooked.norm.register_forward_hook(lambda *_: seen.append("hook"))
    replaced.norm.forward = lambda y: (seen.append("forward"), y)[1]
    frozen = copy.deepcopy(stage)
    frozen.norm.eval()
    del calls[:]
    for other in (hooked, replaced, frozen):
        other(x)
    assert seen == ["hook", "forward"]
    assert "measure" not in calls
