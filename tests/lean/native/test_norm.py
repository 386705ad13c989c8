"""The batch-norm kernels against PyTorch's operators, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from gaslayers.lean.batch_norm import BatchNormCall
from gaslayers.lean.native import norm
from gaslayers.lean.native.kernels import Kernels, kernels
from gaslayers.lean.native.norm_choice import take_call
from tests.lean.native.maps import LAST, slice_of_wider
from tests.lean.native.needs import needs_norm_kernels

EPS = 1e-3

pytestmark = needs_norm_kernels


def _activate(x: Tensor, slope: float) -> Tensor:
    if slope == 1:
        return x
    return F.relu(x) if slope == 0 else F.leaky_relu(x, slope)


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
    assert take_call(x, call)
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
        read, grad, passed = map(slice_of_wider, (activated, grad, passed))
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_running_statistics_move_by_moments_measured_before(dtype) -> None:
    x = torch.randn(3, 13, 4, 5, dtype=dtype).contiguous(memory_format=LAST)
    running = torch.randn(13, dtype=dtype), torch.rand(13, dtype=dtype)
    found = [line.clone() for line in running]
    torch.native_batch_norm(x, None, None, *running, True, 0.3, EPS)

    moments = torch.empty(3, 20, dtype=dtype)[:, :13]
    norm.measure(x, moments, EPS)
    call = BatchNormCall(None, None, *found, training=True, momentum=0.3, eps=EPS)
    y = norm.normalize(x, moments, None, None, 1.0, tracking=call)
    assert all(map(torch.equal, found, running))
    assert torch.equal(y, norm.normalize(x, moments, None, None, 1.0))
    assert all(map(torch.equal, found, running))


def _train(x: Tensor, mean: Tensor, bias: Tensor) -> None:
    call = BatchNormCall(None, bias, mean, torch.ones(8), training=True, momentum=0.1, eps=EPS)
    norm.run(x, call)


def _track(x: Tensor, moments: Tensor, mean: Tensor) -> None:
    call = BatchNormCall(None, None, mean, torch.ones(8), training=True, momentum=0.1, eps=EPS)
    norm.normalize(x, moments, None, None, 1.0, tracking=call)


def _differentiate(x: Tensor, grad: Tensor, passed: Tensor) -> None:
    options = {"wanted": (True,) * 3, "passed": passed, "overwrite": True}
    norm.normalize_backward(grad, x, torch.ones(2, 8), None, None, **options)


def _rows_of(x: Tensor) -> Tensor:
    """The first three pixels of a map, as a table with a row for each."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)[:3]


# What is written, and the place that it shares; each runs by a kernel where it has its own.
SHARING: dict[str, Callable[[Tensor, Callable[[Tensor], Tensor]], None]] = {
    "a copy, the map": lambda x, own: norm.measure(x, torch.empty(3, 8), EPS, to=own(x)),
    "moments, the map": lambda x, own: norm.measure(x, own(_rows_of(x)), EPS),
    "moments, the copy": lambda x, own: norm.measure(
        x, own(_rows_of(to := torch.empty_like(x))), EPS, to=to
    ),
    "a running mean, the map": lambda x, own: _train(x, own(_rows_of(x)[1]), torch.ones(8)),
    "a running mean, the bias": lambda x, own: _train(x, mean := torch.ones(8), own(mean)),
    "a running mean, the moments": lambda x, own: _track(
        x, moments := torch.ones(3, 8), own(moments[0])
    ),
    "a gradient, one that is added": lambda x, own: _differentiate(
        x, grad := torch.randn_like(x), own(grad)
    ),
    "a gradient, the map": lambda x, own: _differentiate(x, own(x), torch.randn_like(x)),
}


@pytest.mark.parametrize("kind", SHARING)
def test_no_kernel_writes_what_it_reads(kind: str, monkeypatch) -> None:
    names: list[str] = []
    run = Kernels.run
    monkeypatch.setattr(Kernels, "run", lambda *call: (names.append(call[1]), run(*call)))
    x = torch.randn(2, 8, 4, 4).contiguous(memory_format=LAST)
    SHARING[kind](x, Tensor.clone)
    assert names
    names.clear()
    SHARING[kind](x, lambda shared: shared)
    assert not names


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
