"""Maps that are not large are made again for their signs, too, and once for all who read them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from gaslayers import explain_saving, make_lean
from gaslayers.lean.engine import provenance
from gaslayers.lean.engine.forms import Again
from tests.accounting.watch import Watch, uncollected

NORM, PACKED = torch.ops.aten.native_batch_norm.default, 2 * 16 * 32 * 32 // 8
LAYERS = [
    lambda: nn.ReLU(),
    lambda: nn.ReLU(inplace=True),
    lambda: nn.LeakyReLU(0.2),
    lambda: nn.LeakyReLU(0.2, inplace=True),
]


class Operators(TorchDispatchMode):
    """Counts the operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[Any] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count[func] += 1
        return func(*args, **(kwargs or {}))


def critic(activation: Any) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(8, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        activation(),
        nn.Conv2d(16, 4, 3, padding=1),
    )


def image() -> Tensor:
    return torch.randn(2, 8, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=["large", "not large"])
def is_large(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """A map of 128 KiB, by where the border is."""
    large = request.param == "large"
    monkeypatch.setattr(provenance, "LARGE_BYTES", 2**17 - large)
    return large


@pytest.mark.parametrize("activation", LAYERS)
def test_signs_of_a_map_that_is_not_large_are_not_kept(activation: Any, is_large: bool) -> None:
    report = explain_saving(critic(activation), image())
    (row,) = [row for row in report.rows if "relu" in row.operator]
    assert row.form == ("signs" if is_large else "run again")
    assert row.lean_bytes == (PACKED if is_large else 0)


@pytest.mark.parametrize("activation", LAYERS)
def test_signs_are_kept_where_the_map_could_be_made_again_of_nothing_that_is_kept(
    activation: Any,
) -> None:
    network = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), activation())
    report = explain_saving(network, image())
    (row,) = [row for row in report.rows if "relu" in row.operator]
    assert row.lean_bytes == PACKED


@pytest.mark.parametrize("activation", LAYERS)
def test_a_map_that_is_not_large_is_made_again_once(activation: Any, is_large: bool) -> None:
    network = make_lean(critic(activation))
    loss = network(image()).sum()
    counts = []
    for _ in range(2):
        with Operators() as operators:
            found = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True)
        counts.append(operators.count[NORM])
        plain = critic(activation)
        expected = torch.autograd.grad(plain(image()).sum(), list(plain.parameters()))
        assert all(map(torch.equal, found, expected))
    assert counts == [1, 1]


def test_two_who_read_a_map_that_is_not_large_read_it_once_made(is_large: bool) -> None:
    torch.manual_seed(0)
    norm, first, second = nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3), nn.Conv2d(8, 4, 3)

    class Fork(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = norm(x) * 0.5
            return first(y) + second(y)

    x = torch.cat([image()] * 2).requires_grad_()
    loss = make_lean(Fork())(x).sum()
    with Operators() as operators:
        loss.backward()
    assert operators.count[NORM] == (2 if is_large else 1)


def test_what_was_held_goes_with_its_last_reader(
    is_large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    forms: list[Again] = []
    restore = Again.restore
    monkeypatch.setattr(Again, "restore", lambda form: forms.append(form) or restore(form))
    network = make_lean(critic(nn.ReLU))
    loss = network(image()).sum()
    torch.autograd.grad(loss, list(network.parameters()), retain_graph=True)
    assert forms
    assert all(form._made is None for form in forms)


@pytest.mark.parametrize("activation", LAYERS)
def test_what_is_kept_goes_with_the_graph_and_no_operator_holds_its_map(
    activation: Any, is_large: bool
) -> None:
    network, x = make_lean(critic(activation)), image()
    known = [*network.parameters(), *network.buffers(), x]
    network(x)
    with uncollected(), Watch() as watch:
        watch.see(known)
        watch.total = 0
        y = network(x)
        kept = watch.total - y.untyped_storage().nbytes()
        del y
        assert watch.total == 0
    report = explain_saving(critic(activation), x)
    of_image = x.untyped_storage().nbytes()
    assert kept == pytest.approx(report.lean_bytes - of_image, abs=1024)  # numbers a channel
