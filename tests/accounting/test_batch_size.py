"""The largest batch against trying them all."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from gaslayers import DenseBlock, DownBlock, max_batch_size, peak_memory
from gaslayers.accounting import batch_size as module_under_test
from gaslayers.models import build_discriminator

ADAM = torch.optim.Adam
NETWORKS = {
    "linear": (nn.Linear(64, 96), (64,), None),
    "two heights": (nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64)), (4,), ADAM),
    "down lean": (DownBlock(2, 4), (2, 8, 8), None),
    "down plain": (DownBlock(2, 4, memory_efficient=False), (2, 8, 8), ADAM),
    "dense": (DenseBlock(4, 2, num_layers=2), (4, 6, 6), ADAM),
    "pooled": (nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2)), (1, 8, 8), ADAM),
}


def true_peak(network, shape, optimizer, kind, batch_size) -> int:
    report = peak_memory(network, torch.zeros(batch_size, *shape), optimizer=optimizer)
    if kind == "allocator":
        return report.allocator_peak
    return max(report.peak, report.first_step.peak)


@pytest.mark.parametrize("kind", ["tensor", "allocator"])
@pytest.mark.parametrize("name", NETWORKS)
def test_largest_batch_is_that_of_trying_them_all(name, kind) -> None:
    network, shape, optimizer = NETWORKS[name]
    peaks = [true_peak(network, shape, optimizer, kind, size) for size in range(1, 14)]
    assert peaks == sorted(peaks)
    budgets = (peaks[0] - 1, peaks[0], peaks[3] - 1, peaks[3], peaks[11] + 1)
    for budget in (budget for budget in budgets if budget < peaks[-1]):
        expected = sum(peak <= budget for peak in peaks)
        found = max_batch_size(network, shape, budget_bytes=budget, optimizer=optimizer, kind=kind)
        assert found == expected


def test_largest_batch_of_a_large_budget_takes_few_evaluations_and_no_memory(monkeypatch) -> None:
    evaluations = []
    rehearse = module_under_test.rehearse

    def counted(*args, **kwargs):
        evaluations.append(args)
        return rehearse(*args, **kwargs)

    monkeypatch.setattr(module_under_test, "rehearse", counted)
    network = build_discriminator("inception_8", variant="modern")
    budget = 80 * 2**30
    found = max_batch_size(network, (1, 28, 28), budget_bytes=budget, optimizer=ADAM)
    assert found > 100_000
    assert len(evaluations) <= 6


def test_largest_batch_counts_what_one_sample_cannot_train_on_as_none() -> None:
    network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
    budget = true_peak(network, (4,), None, "tensor", 2)
    assert max_batch_size(network, (4,), budget_bytes=budget) == 2
    assert max_batch_size(network, (4,), budget_bytes=budget - 1) == 0


def test_largest_batch_takes_the_type_and_the_loss() -> None:
    embedding = nn.Embedding(10, 4)
    words = {"dtype": torch.int64, "loss": lambda out: out.square().mean()}
    assert max_batch_size(embedding, (), budget_bytes=2**20, **words) > 1000
    single = max_batch_size(nn.Linear(4, 8), (4,), budget_bytes=2**20)
    double = max_batch_size(nn.Linear(4, 8).double(), (4,), budget_bytes=2**20, dtype=torch.float64)
    assert single > 1.9 * double


def test_largest_batch_refuses_bad_arguments() -> None:
    search = partial(max_batch_size, nn.Linear(4, 8))
    with pytest.raises(TypeError, match=r"`budget_bytes` must be an int, got 1000.0"):
        search((4,), budget_bytes=1e3)
    with pytest.raises(
        ValueError, match=r"`kind` must be one of 'tensor', 'allocator', got 'cuda'"
    ):
        search((4,), budget_bytes=1000, kind="cuda")
    with pytest.raises(TypeError, match=r"`input_shape` must be a sequence of ints, the .* got 4"):
        search(4, budget_bytes=1000)
    with pytest.raises(ValueError, match=r"`input_shape` must be >= 1, got 0"):
        search((0,), budget_bytes=1000)
    with pytest.raises(TypeError, match=r"max_batch_size: `module` must be a torch.nn.Module"):
        max_batch_size("net", (4,), budget_bytes=1000)
