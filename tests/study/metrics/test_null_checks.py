"""Spoil real images step by step: every metric has to follow, monotonically, the right way."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn.functional import conv2d

from gaslayers.study.metrics.evaluation import describe
from gaslayers.study.metrics.scores import BETTER
from tests.study.metrics.conftest import COUNT, pick

SPOILT = slice(2 * COUNT, 3 * COUNT)
FIDELITY = ("frechet_distance", "kernel_distance", "precision", "density", "coverage")


def values_of(evaluations, name):
    return [getattr(evaluation, name).value for evaluation in evaluations]


def assert_gets_worse(evaluations, name, *, slack=0.0):
    """Assert that each step is worse than the last, or no better by more than ``slack``."""
    values = values_of(evaluations, name)
    sign = 1.0 if BETTER[name] == "lower" else -1.0
    steps = [sign * (after - before) for before, after in itertools.pairwise(values)]
    assert all(step >= -slack for step in steps), (name, values)
    assert sign * (values[-1] - values[0]) > 0.0, (name, values)


def blur(images, sigma):
    if sigma == 0.0:
        return images
    reach = torch.arange(-8, 9, dtype=torch.float32)
    weights = torch.exp(-0.5 * (reach / sigma) ** 2)
    weights = weights / weights.sum()
    rows = conv2d(images, weights.view(1, 1, 1, -1), padding=(0, 8))
    return conv2d(rows, weights.view(1, 1, -1, 1), padding=(8, 0))


@pytest.fixture(scope="module")
def noisy(images, network, judge):
    noise = torch.randn(images[SPOILT].shape, generator=torch.Generator().manual_seed(0))
    levels = (0.0, 0.15, 0.3, 0.6)
    spoilt = ((images[SPOILT] + level * noise).clamp(0.0, 1.0) for level in levels)
    return [judge(describe("noisy", some, network)) for some in spoilt]


@pytest.fixture(scope="module")
def blurred(images, network, judge):
    levels = (0.0, 1.0, 2.0, 3.0)
    spoilt = (blur(images[SPOILT], level) for level in levels)
    return [judge(describe("blurred", some, network)) for some in spoilt]


@pytest.fixture(scope="module")
def dropped(described, labels, judge):
    """Without class 0, without classes 0 and 1, and so on to class 9 alone."""
    found = []
    for k in range(10):
        rows = torch.arange(2 * COUNT, 3 * COUNT)
        kept = rows[labels[rows] >= k]
        repeated = kept.repeat(COUNT // len(kept) + 1)[:COUNT]
        found.append(judge(pick(described, repeated)))
    return found


@pytest.mark.parametrize("name", FIDELITY)
def test_noise_is_seen_by(noisy, name):
    assert_gets_worse(noisy, name)


@pytest.mark.parametrize("name", FIDELITY)
def test_blur_is_seen_by(blurred, name):
    assert_gets_worse(blurred, name)


def test_blur_lowers_the_spread(blurred):
    spreads = values_of(blurred, "spread")
    assert spreads == sorted(spreads, reverse=True)


@pytest.mark.parametrize(
    "name", ["frechet_distance", "kernel_distance", "recall", "coverage", "total_variation"]
)
def test_dropped_classes_are_seen_by(dropped, name):
    assert_gets_worse(dropped, name)


def test_dropped_classes_are_counted(dropped):
    assert values_of(dropped, "classes_seen") == [float(10 - k) for k in range(10)]


@pytest.mark.parametrize("name", ["reverse_kl", "classifier_score"])
def test_dropped_classes_move_entropies(dropped, name):
    assert_gets_worse(dropped, name)


def test_dropped_classes_leave_precision(dropped):
    # Each image that is left is as good as before.
    assert min(values_of(dropped, "precision")) > 0.8


@pytest.fixture(scope="module")
def repeated(described, judge):
    """As many samples of 600, 150, 40, 10 and 1 images."""
    kinds = (COUNT, 150, 40, 10, 1)
    return [
        judge(pick(described, 2 * COUNT + torch.arange(COUNT) % distinct)) for distinct in kinds
    ]


@pytest.mark.parametrize("name", ["frechet_distance", "kernel_distance", "recall", "coverage"])
def test_duplicates_are_seen_by(repeated, name):
    assert_gets_worse(repeated, name)


@pytest.fixture(scope="module")
def copied(described, judge):
    """No copy of a reference image, a quarter, half, all of the samples."""
    fresh = torch.arange(2 * COUNT, 3 * COUNT)
    found = []
    for copies in (0, COUNT // 4, COUNT // 2, COUNT):
        rows = torch.cat([torch.arange(copies), fresh[copies:]])
        found.append(judge(pick(described, rows)))
    return found


def test_copies_lower_the_nearest_ratio_by_their_share(copied):
    ratios = values_of(copied, "nearest_ratio")
    start = ratios[0]
    assert start == pytest.approx(copied[0].nearest_ratio.floor, abs=0.1)
    expected = [start, 0.75 * start, 0.5 * start, 0.0]
    assert ratios == pytest.approx(expected, abs=0.05)


def test_untouched_images_score_like_their_floors(noisy):
    for name, found in noisy[0].scores():
        assert found.value == pytest.approx(found.floor, rel=0.35, abs=0.05), name
