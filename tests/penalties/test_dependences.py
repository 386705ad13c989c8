"""What depends on the penalised input, and what only looks as if it did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gaslayers.penalties import explain_penalty, gradient_penalty
from tests.penalties.oracle import by_double_backward, compare


class Within(nn.Module):
    """An operator between convolutions, with a parameter of its own."""

    def __init__(self, run: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(3, 8, 4, 2, 1), nn.Conv2d(8, 4, 3, padding=1)
        self.line = nn.Parameter(torch.linspace(0.5, 2, 8))
        self.run = run
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        made = self.run(F.leaky_relu(self.first(x), 0.2), self.line)
        return torch.relu(self.last(made)).sum((1, 2, 3))


def image() -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(4, 3, 8, 8, generator=generator, dtype=torch.float64)


LINE = (1, -1, 1, 1)
ZEROS, ONES = torch.zeros(8, dtype=torch.float64), torch.ones(8, dtype=torch.float64)
CASES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "expand_as": lambda h, p: h + p.view(LINE).expand_as(h),
    "type_as": lambda h, p: h + p.view(LINE).type_as(h),
    "view_as": lambda h, p: h + p.repeat(4 * 16).view_as(h),
    "reshape_as": lambda h, p: h + p.repeat(4 * 16).reshape_as(h),
    "constant times map, in place": lambda h, p: torch.full_like(h.detach(), 3.0).mul_(h),
    "constant plus map, in place": lambda h, p: torch.full_like(h.detach(), 3.0).add_(h),
    "norm's weight": lambda h, p: F.batch_norm(h, ZEROS, ONES, weight=h.mean((0, 2, 3))),
    "norm's bias": lambda h, p: F.batch_norm(h, ZEROS, ONES, weight=p, bias=h.mean((0, 2, 3))),
    "norm of a constant": lambda h, p: (
        h + F.batch_norm(torch.ones_like(h), ZEROS, ONES, bias=h.mean((0, 2, 3)))
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_an_operator_between(name: str) -> None:
    compare(lambda: Within(CASES[name]), image())


def _tripled(_module: nn.Module, grads: Any, _outputs: Any) -> Any:
    return tuple(None if grad is None else 3 * grad for grad in grads)


def test_a_shape_alone_does_not_end_the_tape() -> None:
    assert explain_penalty(Within(CASES["expand_as"]), image()).method == "linearised"


@pytest.mark.filterwarnings("ignore:Using a non-full backward hook")
def test_backward_hooks_of_modules_are_called_twice() -> None:
    def make() -> nn.Module:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.LeakyReLU(0.2), nn.Conv2d(8, 4, 3)).double()
        network[1].register_backward_hook(_tripled)
        return network

    compare(make, image())
    report = explain_penalty(make(), image())
    assert report.method == "double backward"
    assert "hook" in report.reason


def test_a_penalty_with_state_is_called_once() -> None:
    drawn: list[Tensor] = []
    target = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))

    def measure(gradient: Tensor) -> Tensor:
        drawn.append(torch.randn(()))
        return (gradient.flatten(1).norm(2, 1) - target * drawn[-1]).square().mean()

    found: list[list[Tensor]] = []
    for way in (gradient_penalty, by_double_backward):
        torch.manual_seed(3)
        network = Within(lambda h, _: h)
        torch.manual_seed(4)
        told: dict[str, Any] = {"penalty": measure} if way is gradient_penalty else {}
        value = way(network, image(), **told) if told else way(network, image(), measure)
        wanted = [network.first.weight, network.last.weight, target]
        found.append([value.detach(), *torch.autograd.grad(value, wanted)])
    assert len(drawn) == 2
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


def test_a_penalty_may_change_the_gradient_in_place() -> None:
    network, x = Within(lambda h, _: h), image()
    value = gradient_penalty(network, x, penalty=lambda g: g.flatten(1).pow_(2).sum(1).mean())
    expected = by_double_backward(network, x)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)


def test_a_score_in_half_precision_leaves_room_for_a_scale() -> None:
    network, x = Within(lambda h, _: h), image()

    def half(x: Tensor) -> Tensor:
        return network(x).half()

    assert explain_penalty(network, x).method == "linearised"
    with pytest.raises(ValueError, match="float16"):
        gradient_penalty(half, x, method="linearised")
    (gradient_penalty(half, x) * 65536).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(4), nn.BatchNorm2d(8, eps=0.0)])
def test_a_live_norm_is_refused_as_by_pytorch(norm: nn.Module) -> None:
    network, x = nn.Sequential(nn.Conv2d(3, 8, 3), norm, nn.Conv2d(8, 1, 3)).double(), image()
    with pytest.raises((RuntimeError, ValueError)) as expected:
        by_double_backward(network, x)
    with pytest.raises(type(expected.value)) as found:
        gradient_penalty(network, x)
    assert str(found.value) == str(expected.value)


def test_inputs_come_in_a_tuple() -> None:
    with pytest.raises(TypeError, match=r"gradient_penalty: `inputs` must be a list or a tuple"):
        gradient_penalty(Within(lambda h, _: h), image(), inputs=torch.zeros(4))
