"""A perfect generator has not collapsed, however few its samples are and many its classes."""

from __future__ import annotations

import pytest
import torch

from gaslayers.study.diagnosis import Thresholds
from gaslayers.study.diagnosis.samples import find_in_samples
from gaslayers.study.metrics import Evaluation, Score, compare_classes
from gaslayers.study.metrics.classes import limits_of


def draw(shares, count, generator):
    labels = torch.multinomial(shares, count, replacement=True, generator=generator)
    return torch.nn.functional.one_hot(labels, len(shares)).double()


def judge(made, reference, others, seed):
    value, floor = (compare_classes(side, reference) for side in (made, others))
    limits = limits_of(reference, others, len(made), seed=seed)
    good = Score(value=1.0, floor=1.0)
    names = ("frechet_distance", "kernel_distance", "precision", "recall", "density", "coverage")
    evaluation = Evaluation(
        samples=len(made),
        features="none",
        features_sha256=None,
        **dict.fromkeys([*names, "nearest_ratio", "spread"], good),
        classes_seen=Score(value=value.seen, floor=floor.seen, limit=limits.seen),
        total_variation=Score(
            value=value.total_variation, floor=floor.total_variation, limit=limits.total_variation
        ),
    )
    return find_in_samples(evaluation, Thresholds())


@pytest.mark.parametrize(
    ("classes", "count", "runs"), [(10, 70, 100), (10, 400, 50), (100, 300, 50), (1000, 1000, 20)]
)
@pytest.mark.parametrize("even", [True, False])
def test_perfect_generator_has_not_collapsed(classes, count, runs, even, monkeypatch):
    monkeypatch.setattr("gaslayers.study.metrics.classes._DRAWS", 500)
    generator = torch.Generator().manual_seed(classes)
    shares = torch.ones(classes) if even else torch.linspace(0.2, 1.8, classes)
    alarms = 0
    for seed in range(runs):
        reference, others, made = (draw(shares, count, generator) for _ in range(3))
        alarms += judge(made, reference, others, seed) is not None
    assert alarms <= 0.01 * runs


@pytest.mark.parametrize(("classes", "count"), [(10, 70), (10, 400), (100, 1000), (1000, 5000)])
def test_half_of_the_classes_are_a_collapse(classes, count, monkeypatch):
    monkeypatch.setattr("gaslayers.study.metrics.classes._DRAWS", 500)
    generator = torch.Generator().manual_seed(0)
    shares = torch.ones(classes)
    reference, others = (draw(shares, count, generator) for _ in range(2))
    half = torch.arange(classes) % 2 == 0
    found = judge(draw(half.double(), count, generator), reference, others, 0)
    assert found.name == "mode collapse"
