from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import entropy
from torchmetrics.image.inception import InceptionScore

from gaslayers.study.metrics import compare_classes, count_modes
from gaslayers.study.metrics.frechet import Given


def logits_of(labels, classes=10, sureness=30.0):
    return torch.nn.functional.one_hot(torch.as_tensor(labels), classes).double() * sureness


def test_classes_of_uneven_shares():
    real = logits_of([0] * 50 + [1] * 30 + [2] * 20, classes=3)
    generated = logits_of([0] * 90 + [1] * 9 + [2] * 1, classes=3)
    found = compare_classes(generated, real)
    assert found.shares == pytest.approx((0.9, 0.09, 0.01))
    assert found.seen == 2  # a hundredth is less than a tenth of a fifth
    assert found.total_variation == pytest.approx(0.4)
    assert found.reverse_kl == pytest.approx(entropy([0.9, 0.09, 0.01], [0.5, 0.3, 0.2]))
    assert compare_classes(generated, real, least_share=0.04).seen == 3


def test_class_that_is_not_real_makes_the_divergence_infinite_and_is_not_counted():
    found = compare_classes(logits_of([0, 1], 3), logits_of([0, 2], 3))
    assert found.reverse_kl == math.inf
    assert found.seen == 1


@pytest.mark.filterwarnings("ignore:Metric `InceptionScore` will save all:UserWarning")
@pytest.mark.filterwarnings("ignore:std:UserWarning")  # of one split
def test_classifier_score_is_the_inception_score():
    logits = torch.randn(500, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    metric = InceptionScore(feature=Given(10), splits=1)
    metric.update(logits)
    expected, _ = metric.compute()
    assert compare_classes(logits, logits).score == pytest.approx(expected.item(), rel=1e-9)


def test_classifier_score_is_between_one_and_the_number_of_classes():
    even = logits_of(list(range(10)) * 3)
    assert compare_classes(even, even).score == pytest.approx(10.0)
    one = logits_of([3] * 30)
    assert compare_classes(one, even).score == pytest.approx(1.0)


def test_classes_refuse_a_share_of_zero():
    with pytest.raises(ValueError, match="compare_classes: `least_share` must be > 0"):
        compare_classes(logits_of([0]), logits_of([0]), least_share=0.0)


def stack(modes, sureness=30.0):
    digits = torch.tensor([[mode // 100, mode // 10 % 10, mode % 10] for mode in modes])
    return logits_of(digits, sureness=sureness)


def test_modes_are_counted_as_the_literature_does_and_strictly():
    found = count_modes(stack([7] * 5 + [123] * 4 + [999]))
    assert (found.found, found.found_strictly) == (3, 1)
    shares = [0.5, 0.4, 0.1]
    expected = sum(q * math.log(q / 0.001) for q in shares)
    assert found.reverse_kl == pytest.approx(expected)


def test_modes_of_unsure_digits_do_not_count_strictly():
    logits = stack([7] * 5)
    logits[:, 1] /= 20.0  # one digit of three
    assert count_modes(logits).found_strictly == 0
    assert count_modes(logits).found == 1
    assert count_modes(logits, least_confidence=0.1).found_strictly == 1


def test_all_modes_are_told_apart():
    found = count_modes(stack(list(range(1000)) * 5))
    assert (found.found, found.found_strictly) == (1000, 1000)
    assert found.reverse_kl == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (torch.rand(4, 10), r"have shape \(N, 3, 10\)"),
        (torch.rand(0, 3, 10), "N >= 1"),
        (torch.full((4, 3, 10), float("nan")), "be finite"),
        ("digits", r"have shape \(N, 3, 10\)"),
    ],
)
def test_modes_say_what_is_wrong(logits, message):
    with pytest.raises(ValueError, match=f"count_modes: `logits` must .*{message}"):
        count_modes(logits)
