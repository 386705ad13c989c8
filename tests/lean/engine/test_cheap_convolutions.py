"""A convolution of few channels runs again in place of keeping what it made; others do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from gaslayers import frozen, make_lean
from tests.lean.engine.test_traps import kept, tensors_of


class _Convolutions(TorchDispatchMode):
    """Counts what runs."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.count += func is torch.ops.aten.convolution.default
        return func(*args, **(kwargs or {}))


def critic(first: nn.Module, norm: Callable[[int], nn.Module]) -> nn.Sequential:
    """A convolution, what reads its map, and nothing else that runs again."""
    return nn.Sequential(first, norm(16), nn.LeakyReLU(0.2, inplace=True))


CHEAP: dict[str, tuple[Callable[[], nn.Module], Callable[[int], nn.Module], tuple[int, ...]]] = {
    "image": (lambda: nn.Conv2d(3, 16, 4, 2, 1), nn.BatchNorm2d, (4, 3, 32, 32)),
    "1-D, at the bound": (lambda: nn.Conv1d(1, 16, 48, padding=24), nn.BatchNorm1d, (4, 1, 512)),
    "3-D": (lambda: nn.Conv3d(1, 16, 3, padding=1), nn.BatchNorm3d, (4, 1, 8, 8, 8)),
    "1x1": (lambda: nn.Conv2d(3, 16, 1), nn.BatchNorm2d, (4, 3, 16, 16)),
    "reflecting": (
        lambda: nn.Conv2d(3, 16, 3, padding=1, padding_mode="reflect"),
        nn.BatchNorm2d,
        (4, 3, 32, 32),
    ),
}
DEAR = {
    "one product more": (lambda: nn.Conv1d(1, 16, 49, padding=24), nn.BatchNorm1d, (4, 1, 512)),
    "grouped": (lambda: nn.Conv2d(8, 16, 3, padding=1, groups=8), nn.BatchNorm2d, (4, 8, 16, 16)),
    "transposed": (lambda: nn.ConvTranspose2d(3, 16, 1), nn.BatchNorm2d, (4, 3, 16, 16)),
}


def _backward(name: str, *, lean: bool, is_frozen: bool = False) -> tuple[int, list[Tensor]]:
    """How many convolutions a backward pass ran, and its gradients."""
    first, norm, shape = (CHEAP | DEAR)[name]
    torch.manual_seed(0)
    network = critic(first(), norm).train()
    x = torch.randn(shape).requires_grad_(is_frozen)
    network = make_lean(network) if lean else network
    if is_frozen:
        with frozen(network):
            loss = network(x).sin().sum()
    else:
        loss = network(x).sin().sum()
    with _Convolutions() as ran:
        loss.backward()
    leaves = [x] if is_frozen else list(network.parameters())
    return ran.count, [leaf.grad for leaf in leaves if leaf.grad is not None]


@pytest.mark.parametrize("is_frozen", [False, True])
@pytest.mark.parametrize("name", CHEAP)
def test_what_reads_few_values_runs_again(name: str, is_frozen: bool) -> None:
    count, found = _backward(name, lean=True, is_frozen=is_frozen)
    none, expected = _backward(name, lean=False, is_frozen=is_frozen)
    assert (count, none) == (1, 0)
    assert found
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("name", DEAR)
def test_what_takes_longer_does_not(name: str) -> None:
    count, found = _backward(name, lean=True)
    assert count == 0
    assert all(map(torch.equal, found, _backward(name, lean=False)[1]))


def test_its_map_is_kept_by_nobody() -> None:
    torch.manual_seed(0)
    network, x = critic(nn.Conv2d(3, 16, 4, 2, 1), nn.BatchNorm2d), torch.randn(4, 3, 32, 32)
    size = 4 * 16 * 16 * 16 * 4
    plain = kept(lambda: network(x), *tensors_of(network, x))
    lean = make_lean(network)
    assert plain > size
    assert (
        kept(lambda: lean(x), *tensors_of(lean, x)) < size / 8
    )  # bits, lines of the norm, few weights


def test_of_two_in_a_row_one_runs_again() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 16, 1), *critic(nn.Conv2d(16, 16, 1), nn.BatchNorm2d))
    loss = make_lean(network)(torch.randn(4, 3, 16, 16)).sin().sum()
    with _Convolutions() as ran:
        loss.backward()
    assert ran.count == 1


def test_a_changed_weight_is_refused_as_by_plain() -> None:
    first, norm, shape = CHEAP["image"]
    messages = []
    for lean in (False, True):
        network = critic(first(), norm)
        loss = (make_lean(network) if lean else network)(torch.randn(shape)).sum()
        with torch.no_grad():
            network[0].weight.mul_(2)
        with pytest.raises(RuntimeError, match="inplace operation") as error:
            loss.backward()
        messages.append(str(error.value).splitlines()[0][:120])
    assert messages[0] == messages[1]


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_its_numbers_are_those_of_the_forward_pass(name: str) -> None:
    """Plain reads neither when no gradient of the image is asked for."""
    first, norm, shape = CHEAP["image"]
    found = []
    for lean in (False, True):
        torch.manual_seed(0)
        network, x = critic(first(), norm), torch.randn(shape)
        loss = (make_lean(network) if lean else network)(x).sin().sum()
        getattr(network[0], name).data.mul_(1.5)
        found.append(torch.autograd.grad(loss, [network[1].weight, network[1].bias]))
    assert all(map(torch.equal, *found))


def test_it_runs_again_by_the_same_library() -> None:
    first, norm, shape = CHEAP["image"]
    found = []
    for lean in (False, True):
        torch.manual_seed(0)
        network, x = critic(first(), norm), torch.randn(shape)
        torch._C._set_mkldnn_enabled(False)  # `flags` warns of other settings
        try:
            loss = (make_lean(network) if lean else network)(x).sin().sum()
        finally:
            torch._C._set_mkldnn_enabled(True)
        found.append(torch.autograd.grad(loss, list(network[1].parameters())))
    assert all(map(torch.equal, *found))


def test_of_a_frozen_one_on_data_the_map_is_kept() -> None:
    """The batch's memory may be filled anew before the backward pass, as plain allows."""
    first, norm, shape = CHEAP["image"]
    torch.manual_seed(0)
    network, x = make_lean(critic(first().requires_grad_(False), norm)), torch.randn(shape)
    loss = network(x).sin().sum()
    x.zero_()
    with _Convolutions() as ran:
        loss.backward()
    assert ran.count == 0
