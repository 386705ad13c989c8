"""Samples that are spoilt in twenty ways for each failure that they can show."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import torch
from torch.nn.functional import avg_pool2d

from gaslayers.study.diagnosis import Reading, Thresholds, diagnose
from gaslayers.study.metrics.evaluation import Sample, describe, spread_of
from tests.study.metrics.conftest import COUNT

RUNS = 20
SIZE = 400
FIRST = 2 * COUNT  # digits before it are those that samples are compared with


@pytest.fixture(scope="module")
def choose(described, images):
    """The sample of some of the images, its spread included."""

    def choose(rows):
        rows = torch.as_tensor(rows)
        return Sample(described.features[rows], described.logits[rows], spread_of(images[rows]))

    return choose


@pytest.fixture(scope="module")
def tell(judge):
    def tell(sample):
        return diagnose([], evaluation=judge(sample, subsets=1))

    return tell


def rows_without(labels, without, draw, *, kept=0):
    """Rows of SIZE images, but for some classes, of which a few images are kept."""
    rows = [
        row
        for digit in range(10)
        for row in [r for r in range(FIRST, 3 * COUNT) if labels[r] == digit][
            : kept if digit in without else None
        ]
    ]
    draw.shuffle(rows)
    return (rows * (SIZE // len(rows) + 1))[:SIZE] if len(rows) < SIZE else rows[:SIZE]


def test_healthy_samples_raise_no_alarm(choose, tell):
    found = Counter()
    for seed in range(RUNS):
        draw = random.Random(seed)
        found[tell(choose(draw.sample(range(FIRST, 3 * COUNT), SIZE))).name] += 1
    assert found == {"healthy": RUNS}


def test_partial_collapse_is_told(choose, labels, tell):
    found = Counter()
    for seed in range(RUNS):
        draw = random.Random(seed)
        without = draw.sample(range(10), draw.choice([1, 1, 2]))
        rows = rows_without(labels, without, draw, kept=draw.choice([0, 1, 2]))
        found[tell(choose(rows)).name] += 1
    assert found["partial mode collapse"] >= 0.95 * RUNS, found


def test_collapse_is_told(choose, labels, tell):
    found = Counter()
    for seed in range(RUNS):
        draw = random.Random(seed)
        without = draw.sample(range(10), draw.randrange(3, 9))
        found[tell(choose(rows_without(labels, without, draw))).name] += 1
    assert found["mode collapse"] >= 0.95 * RUNS, found


def test_total_collapse_is_told(choose, described, images, labels, network, tell):
    found = Counter()
    for seed in range(RUNS):
        draw = random.Random(seed)
        if seed % 2:  # one class
            rows = rows_without(labels, set(range(10)) - {seed // 2}, draw)
            found[tell(choose(rows)).name] += 1
        else:  # one image, or one blur, and a trace of noise
            image = images[draw.randrange(FIRST, 3 * COUNT)].repeat(70, 1, 1, 1)
            image = avg_pool2d(image, 5, 1, 2) if seed % 4 else image
            noise = 0.02 * torch.rand(image.shape, generator=torch.Generator().manual_seed(seed))
            found[tell(describe("one", (image + noise).clamp(0, 1), network)).name] += 1
    assert found["total mode collapse"] >= 0.95 * RUNS, found


def test_failed_quality_is_told(images, network, tell):
    found = Counter()
    for seed in range(RUNS):
        draw = random.Random(seed)
        some = images[draw.sample(range(FIRST, 3 * COUNT), 100)]
        noise = torch.rand(some.shape, generator=torch.Generator().manual_seed(seed))
        spoilt = [
            noise,  # nothing but noise
            (some + draw.uniform(1.2, 2.5) * (noise - 0.5)).clamp(0, 1),
            some.flatten(1)[:, torch.randperm(784)].view_as(some),  # the ink, anywhere
            avg_pool2d(some, 13, 1, 6, count_include_pad=True),
        ][seed % 4]
        found[tell(describe("spoilt", spoilt, network)).name] += 1
    assert found["quality failure"] >= 0.95 * RUNS, found


def test_failures_of_training_come_before_those_of_samples(choose, judge):
    one = judge(choose([FIRST] * SIZE), subsets=1)
    readings = [Reading(t, real_slope=0.0, fake_slope=0.0) for t in range(200)]
    both = diagnose(readings, evaluation=one)
    assert both.name == "saturated"
    assert both.judged == ("signals", "samples")
    samples = diagnose([], evaluation=one)
    assert (samples.name, samples.judged) == ("total mode collapse", ("samples",))
    assert "Spread: 0, of real images" in samples.evidence[0]


def test_thresholds_of_samples_are_those_that_are_given(choose, judge, labels):
    rows = rows_without(labels, [3, 5], random.Random(0))
    evaluation = judge(choose(rows), subsets=1)
    strict = Thresholds(collapsed_classes=8)
    assert diagnose([], evaluation=evaluation).name == "partial mode collapse"
    assert diagnose([], evaluation=evaluation, thresholds=strict).name == "mode collapse"


def test_samples_without_classes_are_judged_by_coverage(choose, judge):
    few = choose([FIRST + place % 6 for place in range(SIZE)])
    without = judge(few, subsets=1).model_copy(
        update={"classes_seen": None, "total_variation": None}
    )
    found = diagnose([], evaluation=without)
    assert found.name == "mode collapse"
    assert found.evidence[0].startswith("Coverage:")
