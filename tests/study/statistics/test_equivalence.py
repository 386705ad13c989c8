from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gaslayers.study.statistics import (
    equivalence_power,
    holm,
    power_line,
    seeds_needed,
    tost,
)

positive = st.floats(0.5, 2.0)
pairs = st.lists(st.tuples(positive, positive), min_size=2, max_size=20)


def by_seed(values):
    return dict(enumerate(values))


@settings(max_examples=60)
@given(pairs, st.floats(0.01, 0.9), st.sampled_from(["ratio", "difference"]))
def test_tost_is_two_t_tests_of_scipy(drawn, margin, scale):
    first, second = (np.array(side) for side in zip(*drawn, strict=True))
    found = tost(by_seed(first.tolist()), by_seed(second.tolist()), margin=margin, scale=scale)
    changes = np.log(first / second) if scale == "ratio" else first - second
    ends = (math.log1p(-margin), math.log1p(margin)) if scale == "ratio" else (-margin, margin)
    if changes.std() < 1e-9:
        return  # scipy divides by it; the case without spread has a test of its own
    lower = stats.ttest_1samp(changes, ends[0], alternative="greater")
    upper = stats.ttest_1samp(changes, ends[1], alternative="less")
    assert found.p_value == pytest.approx(max(lower.pvalue, upper.pvalue), abs=1e-9)
    interval = stats.ttest_1samp(changes, 0.0).confidence_interval(0.9)
    ends_found = (found.interval.low, found.interval.high)
    expected = np.exp(interval) if scale == "ratio" else interval
    assert ends_found == pytest.approx(tuple(expected), rel=1e-7, abs=1e-9)
    # The tests and the interval say the same.
    within = bool(interval.low > ends[0] and interval.high < ends[1])
    assert (found.verdict == "equal") is within or found.p_value == pytest.approx(0.05)


def test_tost_of_no_spread_is_decided_by_the_margin():
    first = by_seed([2.0, 4.0, 8.0])
    inside, outside = (
        by_seed([factor * value for value in first.values()]) for factor in (1.0, 2.0)
    )
    assert tost(first, inside, margin=0.1).verdict == "equal"
    assert tost(first, outside, margin=0.1).verdict == "different"
    assert tost(first, outside, margin=0.1).estimate == pytest.approx(0.5)


def test_few_noisy_seeds_leave_it_undecided():
    generator = np.random.default_rng(0)
    first, second = (by_seed(np.exp(generator.normal(0, 0.3, 4)).tolist()) for _ in range(2))
    assert tost(first, second, margin=0.1).verdict == "undecided"


def test_seeds_are_paired_by_number_and_not_by_place():
    first = {0: 1.0, 1: 2.0, 2: 4.0}
    second = {2: 4.0, 0: 1.0, 1: 2.0}
    found = tost(first, second, margin=0.1)
    assert (found.verdict, found.pairs) == ("equal", (0, 1, 2))


@pytest.mark.parametrize("failed", [math.nan, math.inf])
def test_a_failed_run_shows_nothing_to_be_equal(failed):
    first = by_seed([1.0] * 20)
    found = tost(first, {**first, 7: failed}, margin=0.1)
    assert (found.verdict, found.p_value, found.failures) == ("undecided", 1.0, 1)
    assert (found.interval.low, found.interval.high) == (0.0, math.inf)


def test_tost_calls_the_different_equal_as_rarely_as_its_level_says():
    generator = np.random.default_rng(0)
    wrong = 0
    for _ in range(2000):
        changes = generator.normal(math.log(1.1), 0.05, 10)  # just at the margin
        wrong += (
            tost(by_seed(np.exp(changes).tolist()), by_seed([1.0] * 10), margin=0.1).verdict
            == "equal"
        )
    assert 0.03 <= wrong / 2000 <= 0.07


@pytest.mark.parametrize(
    ("count", "spread", "scale", "truth"),
    [
        (10, 0.1, "ratio", None),
        (12, 0.109, "ratio", None),
        (6, 0.1, "ratio", 1.03),
        (8, 0.12, "difference", None),
        (20, 0.15, "difference", -0.02),
    ],
)
def test_power_is_that_of_a_simulation(count, spread, scale, truth):
    generator = np.random.default_rng(1)
    centre = 0.0 if truth is None else math.log(truth) if scale == "ratio" else truth
    changes = generator.normal(centre, spread, size=(20_000, count))
    lower, upper = (math.log(0.9), math.log(1.1)) if scale == "ratio" else (-0.1, 0.1)
    mean, error = changes.mean(1), changes.std(1, ddof=1) / math.sqrt(count)
    quantile = stats.t(count - 1).ppf(0.95)
    share = ((mean - quantile * error > lower) & (mean + quantile * error < upper)).mean()
    power = equivalence_power(count, spread=spread, margin=0.1, scale=scale, truth=truth)
    assert power == pytest.approx(share, abs=0.012)


@settings(max_examples=10)
@given(st.floats(0.02, 0.5), st.floats(0.05, 0.5))
def test_seeds_needed_are_the_fewest(spread, margin):
    seeds = seeds_needed(spread=spread, margin=margin)
    assert equivalence_power(seeds, spread=spread, margin=margin) >= 0.8
    if seeds > 2:
        assert equivalence_power(seeds - 1, spread=spread, margin=margin) < 0.8


def test_power_line_says_how_many_seeds():
    # 7.7 % over seeds of one setting are 10.9 % of the ratios of two.
    line = power_line(spread=0.077 * math.sqrt(2.0), margin=0.1)
    assert line == (
        '"Equal within 10 %" needs 12 paired seeds '
        "(power 80 %, level 5 %, spread of ratios 10.9 %)."
    )
    assert "spread of differences 0.2" in power_line(spread=0.2, margin=0.3, scale="difference")


@settings(max_examples=60)
@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12))
def test_holm_rejects_what_the_step_down_procedure_rejects(values):
    names = [f"claim {number}" for number in range(len(values))]
    adjusted = holm(dict(zip(names, values, strict=True)))
    assert list(adjusted) == names
    for level in (0.01, 0.05, 0.2):
        rejected = set()
        for rank, place in enumerate(sorted(range(len(values)), key=lambda i: values[i])):
            if values[place] * (len(values) - rank) > level:
                break
            rejected.add(names[place])
        assert {name for name, value in adjusted.items() if value <= level} == rejected


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: tost({0: 1.0}, {0: 1.0}, margin=0.1), ValueError, "hold at least two seeds"),
        (
            lambda: tost({0: 1.0, 1: 1.0}, {0: 1.0, 2: 1.0}, margin=0.1),
            ValueError,
            r"`second` must have the seeds of `first`, of which \[1, 2\].*NaN",
        ),
        (
            lambda: tost({0: 1.0, 1: 0.0}, {0: 1.0, 1: 1.0}, margin=0.1),
            ValueError,
            "scores above 0.*difference",
        ),
        (lambda: tost({}, {}, margin=0.0), ValueError, "`margin` must be > 0"),
        (lambda: tost({}, {}, margin=1.0), ValueError, "`margin` must be < 1"),
        (lambda: tost({}, {}, margin=0.1, scale="log"), ValueError, "`scale` must be one of"),
        (lambda: holm({}), ValueError, "`p_values` must hold at least one"),
        (lambda: holm({"a": 1.1}), ValueError, "`p_values` must be <= 1"),
        (lambda: holm([0.1]), TypeError, "be a mapping from claims"),
        (lambda: seeds_needed(spread=1.0, margin=1e-4), ValueError, "large enough for 100000"),
        (lambda: equivalence_power(1, spread=1.0, margin=0.1), ValueError, "`pairs` must be >= 2"),
    ],
)
def test_bad_input_is_said(call, error, message):
    with pytest.raises(error, match=message):
        call()
