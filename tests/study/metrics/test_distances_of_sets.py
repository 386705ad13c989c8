"""The Frechet and the kernel distance against their formulas, written out once more."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from gaslayers.study.metrics import frechet_distance, kernel_distance

RELATIVE = 1e-7


def draw(count, width, seed, dtype=torch.float64):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def slow_frechet(a, b):
    a, b = a.double().numpy(), b.double().numpy()
    away = ((a.mean(0) - b.mean(0)) ** 2).sum()
    s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    return away + np.trace(s + t - 2.0 * sqrtm(s @ t).real)


@pytest.mark.parametrize("width", [2, 16, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_frechet_distance_is_that_of_the_formula(width, dtype):
    a = draw(300, width, 0, dtype) @ draw(width, width, 1, dtype)
    b = draw(400, width, 2, dtype) + 0.3
    assert frechet_distance(a, b) == pytest.approx(slow_frechet(a, b), rel=RELATIVE)


def test_frechet_distance_of_far_means_is_in_float64():
    a = draw(100, 4, 0)
    assert frechet_distance(a + 1e4, a + 1e4 + 1e-2) == pytest.approx(4e-4, rel=1e-4)


def test_frechet_distance_of_a_collapsed_set():
    real = draw(200, 8, 0)
    collapsed = torch.zeros(200, 8)
    expected = (real.mean(0).square().sum() + real.var(0).sum()).item()
    assert frechet_distance(collapsed, real) == pytest.approx(expected, rel=RELATIVE)


def slow_kernel(a, b):
    """The unbiased estimate over all pairs."""
    n, m, d = len(a), len(b), a.shape[1]
    k = lambda x, y: (x @ y / d + 1.0) ** 3  # noqa: E731
    same_a = sum(k(a[i], a[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    same_b = sum(k(b[i], b[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return same_a + same_b - 2.0 * sum(k(x, y) for x in a for y in b) / (n * m)


def test_kernel_distance_of_few_samples_is_that_of_the_formula():
    a, b = draw(30, 5, 0), draw(30, 5, 1) + 0.5
    assert kernel_distance(a, b, subsets=3) == pytest.approx(
        slow_kernel(a.numpy(), b.numpy()), rel=RELATIVE
    )


def test_kernel_distance_draws_from_its_seed_alone():
    a, b = draw(1500, 3, 0), draw(1500, 3, 1)
    torch.manual_seed(5)
    first = kernel_distance(a, b, subsets=2)
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), after)
    assert kernel_distance(a, b, subsets=2) == first
    assert kernel_distance(a, b, subsets=2, seed=1) != first


def test_distances_warn_of_nothing_and_need_no_other_library():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frechet_distance(draw(9, 2, 0), draw(9, 2, 1))
        kernel_distance(draw(9, 2, 0), draw(9, 2, 1))
    assert "torch_fidelity" not in sys.modules


@pytest.mark.parametrize("metric", [frechet_distance, kernel_distance])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_distances_refuse_what_is_not_finite(metric, value):
    spoilt = draw(20, 3, 0)
    spoilt[4, 1] = value
    message = rf"{metric.__name__}: `generated` must have finite features, got '1 of 20 samples"
    with pytest.raises(ValueError, match=message):
        metric(spoilt, draw(20, 3, 1))


def test_frechet_distance_wants_more_samples_than_features():
    with pytest.raises(ValueError, match=r"`real` must hold at least 9 samples, got 8"):
        frechet_distance(draw(9, 8, 0), draw(8, 8, 1))


def test_kernel_distance_wants_subsets():
    with pytest.raises(ValueError, match="`subsets` must be >= 1, got 0"):
        kernel_distance(draw(9, 2, 0), draw(9, 2, 1), subsets=0)
