"""Inputs that a rule could misread: bounds, precisions, casts, arguments that change later."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gaslayers.lean.engine import lean_saving, operation
from tests.accounting.watch import Watch

BF16 = torch.bfloat16


@pytest.fixture(autouse=True)
def _nothing_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operation, "SMALLEST_BYTES", 64)


def randn(*size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(size, dtype=dtype).requires_grad_()


def normed(x: Tensor) -> Tensor:
    return F.batch_norm(x, None, None, training=True)


def at_bounds(dtype: torch.dtype = torch.float32) -> Tensor:
    values = [-2.0, -1.0, -0.7, 0.0, 0.7, 1.0, 2.0, torch.nan]
    return torch.tensor(values * 16, dtype=dtype).requires_grad_()


def fine(dtype: torch.dtype) -> Tensor:
    return torch.linspace(-1, 1, 4096, dtype=dtype).requires_grad_()


def _frozen_of_its_own_shape() -> tuple[Tensor, list[Tensor]]:
    x, weight = randn(8, 8, 3, 3), torch.randn(8, 8, 3, 3)
    with torch.autocast("cpu", BF16):
        return F.conv2d(x, weight, padding=1).float(), [x]


def _conjugates() -> tuple[Tensor, list[Tensor]]:
    x = torch.randn(16, 16, dtype=torch.cfloat, requires_grad=True)
    y = x * torch.randn(16, 16, dtype=torch.cfloat)
    return (y * y.conj()).abs(), [x]


def _list_that_is_reversed() -> tuple[Tensor, list[Tensor]]:
    x, weight, order = randn(2, 4, 6, 6), randn(4, 4, 3, 3), [3, 1, 0, 2]
    y = normed(x)
    first = F.conv2d(y[:, order], weight)
    order.reverse()
    return first + F.conv2d(y[:, order], weight), [x, weight]


def _array_that_is_filled() -> tuple[Tensor, list[Tensor]]:
    np = pytest.importorskip("numpy")
    x, weight, order = randn(2, 4, 6, 6), randn(4, 4, 3, 3), np.array([3, 1, 0, 2])
    first = F.conv2d(normed(x)[:, order], weight)
    order[:] = 0
    return first, [x, weight]


def _promoted_in_place() -> tuple[Tensor, list[Tensor]]:
    x, other = randn(4, 4, 8, 8), torch.randn(4, 4, 8, 8)
    h = normed(x).to(BF16)
    h *= other
    h += other
    return (h * h).float() + torch.sin(h).float(), [x]


def _leaf_read_twice_under_autocast() -> tuple[Tensor, list[Tensor]]:
    x, first, second = randn(4, 8, 8, 8), randn(8, 8, 3, 3), randn(8, 8, 3, 3)
    with torch.autocast("cpu", BF16):
        return F.conv2d(x, first).float() + F.conv2d(x, second).float(), [x, first, second]


def _frozen_norm_in_low_precision() -> tuple[Tensor, list[Tensor]]:
    norm = nn.BatchNorm2d(8).to(BF16).eval().requires_grad_(False)
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    x = randn(4, 8, 16, 16, dtype=BF16)
    return norm(x).float().sin(), [x]


def _slice_normed_in_low_precision() -> tuple[Tensor, list[Tensor]]:
    x, weight = randn(4, 16, 8, 8, dtype=BF16), randn(8, 8, 3, 3, dtype=BF16)
    y = F.batch_norm(x[:, ::2], torch.zeros(8), torch.ones(8), training=True)
    return F.conv2d(F.silu(y), weight).float(), [x, weight]


def _noted_before_a_change() -> tuple[Tensor, list[Tensor]]:
    x, weight = randn(4, 8, 8, 8), randn(8, 8, 3, 3)
    h = F.conv2d(x, weight)
    h.std()  # only to be printed, say
    return F.conv2d(F.leaky_relu(h, 0.2, inplace=True), weight), [x, weight]


def _kept_for_a_branch_that_is_left() -> tuple[Tensor, list[Tensor]]:
    x, weight = randn(4, 8, 8, 8), randn(8, 8, 3, 3)
    h = F.conv2d(x, weight)
    h.abs()
    return F.leaky_relu(h, 0.2, inplace=True), [x, weight]


def _parameter_changed_within() -> tuple[Tensor, list[Tensor]]:
    x, weight, shift = randn(4, 8, 8, 8), randn(8, 8, 3, 3), nn.Parameter(torch.randn(1, 8, 1, 1))
    y = normed(x) + shift
    with torch.no_grad():
        shift.clamp_(-0.5, 0.5)
    return F.conv2d(y, weight), [x, weight]


def _by_keyword() -> tuple[Tensor, list[Tensor]]:
    x, weight = randn(4, 8, 8, 8), randn(8, 8, 3, 3)
    h = torch.relu_(input=normed(x))
    return F.conv2d(input=F.leaky_relu(input=h, negative_slope=0.1), weight=weight), [x, weight]


def _mapped_within() -> tuple[Tensor, list[Tensor]]:
    x = randn(4, 8)
    y = torch.func.vmap(lambda v: F.relu(v * 2).sin())(x)
    return y + F.relu(x), [x]


def _nested() -> tuple[Tensor, list[Tensor]]:
    linear = nn.Linear(16, 16)
    x = torch.nested.nested_tensor([torch.randn(2, 16), torch.randn(3, 16)], requires_grad=True)
    return linear(x).to_padded_tensor(0.0), [*linear.parameters()]


def _of(function: Callable[[Tensor], Tensor], make: Callable[[], Tensor]) -> Callable[[], object]:
    def run() -> tuple[Tensor, list[Tensor]]:
        x = make()
        return function(x).float(), [x]

    return run


CASES: dict[str, Callable[[], object]] = {
    "clamp": _of(lambda x: x.clamp(-1, 1), at_bounds),
    "clip": _of(lambda x: torch.clip(x, max=0.7), at_bounds),
    "clamp_min": _of(lambda x: x.clamp_min(0.0), at_bounds),
    "clamp in place": _of(lambda x: (x * 1).clamp_(min=-1), at_bounds),
    "clamp by tensors": _of(lambda x: x.clamp(torch.tensor(-1.0), torch.tensor(1.0)), at_bounds),
    "clamp of few bits": _of(lambda x: x.clamp(-0.7, 0.7), lambda: fine(BF16)),
    "clamp beyond half": _of(lambda x: x.clamp(min=4e4), lambda: fine(torch.float16)),
    "hardtanh": _of(lambda x: F.hardtanh(x, -0.7, 0.7), at_bounds),
    "hardtanh of few bits": _of(lambda x: F.hardtanh(x, -0.7, 0.7), lambda: fine(BF16)),
    "relu6": _of(F.relu6, at_bounds),
    "relu of nan": _of(F.relu, at_bounds),
    "leaky of nan": _of(lambda x: F.leaky_relu(x, 0.1), at_bounds),
    "frozen weight like the input": _frozen_of_its_own_shape,
    "conjugates": _conjugates,
    "list that is reversed": _list_that_is_reversed,
    "array that is filled": _array_that_is_filled,
    "promoted in place": _promoted_in_place,
    "leaf read twice under autocast": _leaf_read_twice_under_autocast,
    "frozen norm in low precision": _frozen_norm_in_low_precision,
    "slice normed in low precision": _slice_normed_in_low_precision,
    "noted before a change": _noted_before_a_change,
    "kept for a branch that is left": _kept_for_a_branch_that_is_left,
    "parameter changed within": _parameter_changed_within,
    "by keyword": _by_keyword,
    "mapped within": _mapped_within,
    "nested": _nested,
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_without_the_engine(name: str) -> None:
    found = []
    for lean in (False, True):
        torch.manual_seed(0)
        with lean_saving() if lean else contextlib.nullcontext():
            y, wanted = CASES[name]()
        weights = torch.linspace(-1, 1, y.numel()).view(y.shape)
        found.append(torch.autograd.grad((y * weights).nansum(), wanted))
    for own, plain in zip(*found, strict=True):
        torch.testing.assert_close(own, plain, rtol=0, atol=0, equal_nan=True)


def test_hooks_around_do_not_ask_for_versions() -> None:
    x, weight = randn(2, 4, 6, 6), randn(4, 4, 3, 3)
    with torch.autograd.graph.save_on_cpu(), lean_saving():
        y = normed(x)
        z = F.conv2d(y, weight)
    with torch.no_grad():
        y.mul_(2)
    z.sum().backward()


def _penalties(count: int) -> tuple[Tensor, int]:
    """The last gradient of so many penalties in one context, and the bytes that then live."""
    torch.manual_seed(0)
    weight, x = randn(8, 8, 3, 3), randn(2, 8, 8, 8)
    gc.collect()
    with Watch() as watch, lean_saving():
        for _ in range(count):
            with torch.no_grad():
                x.copy_(torch.randn(x.shape))
            y = F.leaky_relu(F.conv2d(x, weight), 0.2).square()
            (grad,) = torch.autograd.grad(y.sum(), x, create_graph=True)
            (own,) = torch.autograd.grad(grad.square().sum(), weight)
            del y, grad
        gc.collect()
        return own, watch.total


def test_penalties_in_one_context_hold_no_more_each_and_take_new_images() -> None:
    found, held = _penalties(6)
    torch.manual_seed(0)
    weight, x = randn(8, 8, 3, 3), randn(2, 8, 8, 8)
    for _ in range(6):
        with torch.no_grad():
            x.copy_(torch.randn(x.shape))
    y = F.leaky_relu(F.conv2d(x, weight), 0.2).square()
    (grad,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    assert torch.equal(found, torch.autograd.grad(grad.square().sum(), weight)[0])
    assert held == _penalties(2)[1]


def test_a_mode_of_somebody_else_decides_alone() -> None:
    class Doubles(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            made = func(*args, **(kwargs or {}))
            return made * 2 if func is F.relu else made

    x = randn(64)
    with Doubles(), lean_saving():
        y = F.relu(x).sin()
    (grad,) = torch.autograd.grad(y.sum(), x)
    expected = (2 * x.detach().relu()).cos() * 2 * (x.detach() > 0)
    torch.testing.assert_close(grad, expected)
