"""The multiply-adds of the backward pass: forward times the gradients that are asked for."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from gaslayers import DepthwiseInceptionBlock, count
from gaslayers.models import LSGANGenerator, build_discriminator

X = (2, 4, 6, 8)

LAYERS = {
    "convolution": nn.Conv2d(4, 6, 3),
    "same": nn.Conv2d(4, 6, 3, padding="same"),
    "grouped": nn.Conv2d(4, 8, 3, groups=2),
    "depthwise": nn.Conv2d(4, 8, 3, padding=1, groups=4),
    "transposed": nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2),
    "linear": nn.Linear(8, 5),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("asks_input", [False, True])
@pytest.mark.parametrize("asks_weight", [False, True])
def test_backward_is_forward_times_the_gradients_asked_for(name, asks_input, asks_weight) -> None:
    layer = LAYERS[name]
    layer.weight.requires_grad_(asks_weight)  # the bias goes on asking for its own, which is free
    report = count(layer, torch.zeros(X, requires_grad=asks_input), backward=True)
    assert report.backward_macs == (asks_input + asks_weight) * report.macs
    assert report.backward_flops == 2 * report.backward_macs


def test_backward_is_not_counted_unless_asked_for() -> None:
    report = count(nn.Conv2d(4, 6, 3), torch.zeros(X))
    assert (report.backward_macs, report.backward_flops) == (None, None)
    assert report.by_module[""].backward_macs is None


def test_backward_of_what_needs_no_gradient_is_nothing() -> None:
    frozen = nn.Conv2d(4, 6, 3).requires_grad_(False)
    assert count(frozen, torch.zeros(X), backward=True).backward_macs == 0


def test_backward_of_a_depthwise_inception_is_twice_its_forward() -> None:
    block = DepthwiseInceptionBlock(16, 64)
    report = count(block, torch.zeros(2, 16, 8, 8, requires_grad=True), backward=True)
    assert report.backward_macs == 2 * report.macs
    # Without a gradient of the input the first layers of both branches ask for one less.
    report = count(block, torch.zeros(2, 16, 8, 8), backward=True)
    first = [f"branches.{i}.{unit}" for i, unit in enumerate(["conv", "reduce"])]
    saved = sum(report.by_module[name].macs for name in first)
    assert report.backward_macs == 2 * report.macs - saved


@pytest.mark.parametrize("frozen", [False, True])
def test_backward_of_nets_without_groups_is_what_torch_counts(frozen) -> None:
    networks = [
        # Plain: torch's counter would count a composed kernel as it runs, not as the layers it is.
        (build_discriminator("inception_8", memory_efficient=False), torch.zeros(2, 1, 28, 28)),
        (LSGANGenerator(), torch.zeros(2, 100)),
        (torchvision.models.resnet18(weights=None), torch.zeros(2, 3, 32, 32)),
    ]
    for network, x in networks:
        network.requires_grad_(not frozen)
        x.requires_grad_(frozen)
        with FlopCounterMode(display=False) as counter:
            network(x).sum().backward()
        report = count(network, x, backward=True)
        assert 2 * (report.macs + report.backward_macs) == counter.get_total_flops()


def test_backward_goes_to_the_module_that_ran_forward(make) -> None:
    def forward(self, x):
        x = self.first(x)
        x = x.flatten(2) @ self.mix.weight  # the root's own product
        return self.last(x)

    children = {"first": nn.Conv2d(4, 3, 1), "mix": nn.Linear(48, 48), "last": nn.Linear(48, 2)}
    report = count(make(forward, **children), torch.zeros(X), backward=True)
    first, last = report.by_module["first"], report.by_module["last"]
    own = 2 * 3 * 48 * 48
    assert (first.backward_macs, last.backward_macs) == (first.macs, 2 * last.macs)
    assert report.by_module["mix"].backward_macs == 0
    assert report.backward_macs == first.macs + 2 * last.macs + 2 * own


def test_backward_starts_from_every_output(make) -> None:
    children = {name: nn.Linear(8, 8) for name in ("a", "b", "c")}
    module = make(
        lambda self, x: {"a": self.a(x), "rest": [self.b(x), 3, self.c(x).detach()]}, **children
    )
    report = count(module, torch.zeros(X), backward=True)
    found = {name: report.by_module[name].backward_macs for name in children}
    assert found == {"a": report.macs // 3, "b": report.macs // 3, "c": 0}
