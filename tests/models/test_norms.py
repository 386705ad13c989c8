"""The two batch norms of GAS (2018) that are not PyTorch's."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gaslayers.models import build_discriminator
from gaslayers.models.norms import FrozenNorm2d, OffsetBatchNorm1d, OffsetBatchNorm2d

# Compared in float64, where another order of summation moves the last digits alone.
TOLERANCE = {"rtol": 1e-9, "atol": 1e-11}


def test_frozen_norm_scales_each_channel_by_its_constant() -> None:
    norm = FrozenNorm2d(4, eps=1e-2).double()
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    running = torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64)
    expected = F.batch_norm(x, *running, weight=norm.weight, eps=1e-2)
    for training in (True, False):
        torch.testing.assert_close(norm.train(training)(x), expected, **TOLERANCE)


def test_frozen_norms_constants_are_drawn_close_to_one() -> None:
    weight = FrozenNorm2d(20_000).weight
    assert weight.mean().item() == pytest.approx(1, abs=1e-4)
    assert weight.std().item() == pytest.approx(0.002, rel=0.05)


def test_frozen_norm_has_nothing_to_train_and_never_changes() -> None:
    network = build_discriminator("inception_8")
    norms = [module for module in network.modules() if isinstance(module, FrozenNorm2d)]
    assert len(norms) == 3
    assert not [parameter for norm in norms for parameter in norm.parameters()]
    before = [norm.weight.clone() for norm in norms]
    optimizer = torch.optim.SGD(network.parameters(), lr=10.0)
    for _ in range(3):
        optimizer.zero_grad()
        network(torch.rand(4, 1, 28, 28)).sum().backward()
        optimizer.step()
    for norm, weight in zip(norms, before, strict=True):
        torch.testing.assert_close(norm.weight, weight, rtol=0, atol=0)


def test_frozen_norms_constants_travel_with_the_state_dict() -> None:
    first, second = FrozenNorm2d(3), FrozenNorm2d(3)
    assert not torch.equal(first.weight, second.weight)
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(first.weight, second.weight, rtol=0, atol=0)


def test_lean_paths_know_both_norms() -> None:
    for variant in ("as_coded", "as_described"):
        network = build_discriminator("depthwise_inception_dense", variant=variant)
        assert all(stage.execution.is_lean for stage in network.stages)


@pytest.mark.parametrize(
    ("norm_class", "shape"), [(OffsetBatchNorm1d, (6, 4)), (OffsetBatchNorm2d, (3, 4, 2, 2))]
)
class TestOffsetNorm:
    def test_it_trains_an_offset_and_no_weight(self, norm_class, shape) -> None:
        norm = norm_class(4)
        assert [name for name, _ in norm.named_parameters()] == ["bias"]
        norm(torch.randn(shape)).sum().backward()
        assert norm.bias.grad is not None

    def test_it_is_the_originals_batch_norm(self, norm_class, shape) -> None:
        norm = norm_class(4).double()
        nn.init.uniform_(norm.bias)
        x = torch.randn(shape, dtype=torch.float64)
        axes = [0, 2, 3][: len(shape) - 1]
        expected = F.batch_norm(x, None, None, bias=norm.bias, training=True, eps=1e-3)
        torch.testing.assert_close(norm(x), expected, **TOLERANCE)
        # Decay 0.999 from 0 and 1.
        torch.testing.assert_close(norm.running_mean, 1e-3 * x.mean(axes), **TOLERANCE)
        torch.testing.assert_close(
            norm.running_var, 0.999 + 1e-3 * x.var(axes, correction=1), **TOLERANCE
        )

    def test_its_weight_stays_at_one(self, norm_class, shape) -> None:
        norm = norm_class(4)
        norm.reset_parameters()
        assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
        torch.testing.assert_close(norm.weight, torch.ones(4), rtol=0, atol=0)
