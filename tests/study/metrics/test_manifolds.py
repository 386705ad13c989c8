from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaslayers.study.metrics import compare_manifolds, nearest_ratio
from gaslayers.study.metrics.distances import squared_nearest, squared_radii


def distance(a, b):
    return np.sqrt(((a - b) ** 2).sum())


def slow_manifolds(generated, real, k):
    """The definitions of the papers, sample by sample."""

    def radius(points, i):
        return sorted(distance(points[i], other) for other in points)[k]

    real_radii = [radius(real, i) for i in range(len(real))]
    generated_radii = [radius(generated, j) for j in range(len(generated))]
    away = np.array([[distance(x, y) for y in generated] for x in real])
    in_real = away < np.array(real_radii)[:, None]
    in_generated = away < np.array(generated_radii)[None, :]
    return {
        "precision": in_real.any(0).mean(),
        "recall": in_generated.any(1).mean(),
        "density": in_real.sum(0).mean() / k,
        "coverage": (away.min(1) < np.array(real_radii)).mean(),
    }


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    sizes=st.tuples(st.integers(7, 40), st.integers(7, 40)),
    width=st.integers(1, 5),
    k=st.integers(1, 6),
    shift=st.sampled_from([0.0, 0.5, 3.0, 1000.0]),
    repeats=st.booleans(),
)
def test_manifolds_are_those_of_a_slow_loop(seed, sizes, width, k, shift, repeats):
    generator = torch.Generator().manual_seed(seed)
    generated = torch.randn(sizes[0], width, generator=generator, dtype=torch.float64) + shift
    real = torch.randn(sizes[1], width, generator=generator, dtype=torch.float64) + shift
    if repeats:  # balls of radius 0, which rounding would fill
        generated[: k + 2] = generated[0]
        real[-k - 2 :] = generated[0]
    found = compare_manifolds(generated, real, nearest_k=k)
    expected = slow_manifolds(generated.numpy(), real.numpy(), k)
    for name, value in expected.items():
        assert getattr(found, name) == pytest.approx(value, abs=1e-6), name


def test_manifolds_are_the_same_in_many_chunks(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    generated, real = torch.rand(2, 300, 8, generator=generator)
    whole = compare_manifolds(generated, real)
    monkeypatch.setattr("gaslayers.study.metrics.distances._ROWS", 7)
    assert compare_manifolds(generated, real) == whole


def test_manifolds_of_one_set_with_itself_are_perfect_but_for_density():
    features = torch.rand(50, 3, generator=torch.Generator().manual_seed(0))
    found = compare_manifolds(features, features)
    assert (found.precision, found.recall, found.coverage) == (1.0, 1.0, 1.0)


def test_distances_hold_a_few_rows_at_a_time():
    features = torch.rand(4000, 16, dtype=torch.float64)
    largest = 0
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            for tensor in result if isinstance(result, tuple) else (result,):
                if isinstance(tensor, torch.Tensor):
                    largest = max(largest, tensor.numel() * tensor.element_size())
            return result

    with Largest():
        compare_manifolds(features, features)
    # A hundredth of the bytes of all distances, and a margin for the points themselves.
    assert 0 < largest < 4000 * 4000 * 8 / 20


def test_nearest_and_radii_are_those_of_cdist():
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(200, 6, generator=generator, dtype=torch.float64)
    others = torch.randn(150, 6, generator=generator, dtype=torch.float64)
    away = torch.cdist(points, others, compute_mode="donot_use_mm_for_euclid_dist").square()
    torch.testing.assert_close(squared_nearest(points, others), away.amin(1))
    among = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").square()
    torch.testing.assert_close(squared_radii(points, 3), among.sort(1).values[:, 3])


def test_distances_far_from_the_origin_are_those_near_it():
    generator = torch.Generator().manual_seed(0)
    points, others = torch.randint(0, 50, (2, 60, 4), generator=generator).double()
    far = squared_nearest(points + 2.0**24, others + 2.0**24)
    torch.testing.assert_close(far, squared_nearest(points, others))


def test_nearest_ratio_is_the_ratio_of_mean_distances():
    generator = torch.Generator().manual_seed(0)
    points, others = torch.randn(2, 80, 4, generator=generator, dtype=torch.float64)
    away = torch.cdist(points, others, compute_mode="donot_use_mm_for_euclid_dist").amin(1)
    among = torch.cdist(others, others, compute_mode="donot_use_mm_for_euclid_dist")
    among = among.sort(1).values[:, 1]
    assert nearest_ratio(points, others) == pytest.approx((away.mean() / among.mean()).item())


def test_nearest_ratio_of_training_images_that_are_all_the_same_is_an_error():
    with pytest.raises(ValueError, match=r"nearest_ratio: `training` must hold an image without"):
        nearest_ratio(torch.rand(5, 2), torch.ones(5, 2))


@pytest.mark.parametrize(
    ("generated", "real", "options", "error", "message"),
    [
        (torch.rand(5, 2), torch.rand(9, 2), {}, ValueError, "`generated` must hold at least 6"),
        (
            torch.rand(9, 2),
            torch.rand(9, 3),
            {},
            ValueError,
            "as many features as `real`, 3, got 2",
        ),
        (torch.rand(9, 2, 1), torch.rand(9, 2), {}, ValueError, r"`generated` must have shape \(N"),
        (torch.rand(9, 2), torch.ones(9, 2).long(), {}, TypeError, "`real` must be a floating"),
        (torch.rand(9, 2), [1.0], {}, TypeError, "`real` must be a floating"),
        (torch.rand(9, 2), torch.rand(9, 2), {"nearest_k": 0}, ValueError, "`nearest_k` must be"),
        (
            torch.rand(9, 2),
            torch.tensor([[1.0, float("nan")]] * 9),
            {},
            ValueError,
            "`real` must have finite features, got '9 of 9 samples",
        ),
    ],
)
def test_manifolds_say_what_is_wrong(generated, real, options, error, message):
    with pytest.raises(error, match=f"compare_manifolds: .*{message}"):
        compare_manifolds(generated, real, **options)
