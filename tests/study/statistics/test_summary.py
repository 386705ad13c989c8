from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gaslayers.study.statistics import summarise, wilson

scores = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)


def by_seed(values):
    return dict(enumerate(values))


@settings(max_examples=50)
@given(scores)
def test_median_and_interquartile_mean_are_those_of_a_slow_loop(values):
    summary = summarise(by_seed(values), resamples=50)
    assert summary.median == pytest.approx(statistics.median(values))
    cut = len(values) // 4
    middle = sorted(values)[cut : len(values) - cut]
    assert summary.interquartile_mean == pytest.approx(sum(middle) / len(middle), abs=1e-6)
    assert summary.points == by_seed(values)


@settings(max_examples=50)
@given(st.lists(st.floats(-1e6, 1e6), min_size=6, max_size=30), st.integers(0, 2**31))
def test_interval_holds_numbers_between_the_extremes(values, seed):
    summary = summarise(by_seed(values), resamples=50, seed=seed)
    rounding = 1e-9 * max(map(abs, values))
    assert min(values) - rounding <= summary.interval.low <= summary.interval.high
    assert summary.interval.high <= max(values) + rounding


def test_interval_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(0)
    hits = 0
    for seed in range(300):
        values = generator.normal(5.0, 1.0, size=25).tolist()
        interval = summarise(by_seed(values), resamples=500, seed=seed).interval
        hits += interval.low <= 5.0 <= interval.high
    # A percentile bootstrap of 25 is a few per cent short; 1.3 per cent is one standard error.
    assert 0.89 <= hits / 300 <= 0.98


@pytest.mark.parametrize("count", [6, 10])
def test_interval_of_few_seeds_is_a_little_short(count):
    generator = np.random.default_rng(count)
    hits = 0
    for seed in range(300):
        values = generator.normal(5.0, 1.0, size=count).tolist()
        interval = summarise(by_seed(values), resamples=400, seed=seed).interval
        hits += interval.low <= 5.0 <= interval.high
    # 1.6 per cent is one standard error.
    assert 0.87 <= hits / 300 <= 0.97


@pytest.mark.parametrize(
    ("count", "confidence", "exists"),
    [(1, 0.95, False), (5, 0.95, False), (6, 0.95, True), (5, 0.9, True), (7, 0.99, False)],
)
def test_too_few_seeds_have_no_interval(count, confidence, exists):
    summary = summarise(by_seed([float(k) for k in range(count)]), confidence=confidence)
    assert (summary.interval is not None) is exists
    assert summary.failure_rate.confidence == confidence


def test_interval_narrows_with_seeds_and_draws_from_its_seed_alone():
    generator = np.random.default_rng(0)
    few, many = (by_seed(generator.normal(size=size).tolist()) for size in (8, 200))
    wide, narrow = summarise(few).interval, summarise(many).interval
    assert narrow.high - narrow.low < wide.high - wide.low
    assert summarise(few) == summarise(few)
    assert summarise(few, seed=1).interval != wide


@pytest.mark.parametrize("failed", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("higher", "worst"), [(False, math.inf), (True, -math.inf)])
def test_failed_runs_stay_in_as_the_worst(failed, higher, worst):
    values = [1.0, 2.0, 2.5, 3.0, 4.0, failed]
    summary = summarise(by_seed(values), higher_is_better=higher)
    assert summary.failures == 1
    assert summary.points[5] == worst
    assert summary.median == (2.25 if higher else 2.75)
    assert summary.interquartile_mean == pytest.approx(2.125 if higher else 2.875)
    assert summary.failure_rate == wilson(1, 6)
    # Among resamples are many in which the failed run is in the middle half.
    assert (summary.interval.low if higher else summary.interval.high) == worst


def test_runs_that_all_failed_have_a_summary():
    summary = summarise({3: math.nan, 5: math.nan})
    assert summary.median == math.inf
    assert summary.failure_rate.high == pytest.approx(1.0)


@settings(max_examples=50)
@given(st.integers(1, 60), st.data(), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_is_that_of_its_formula(runs, data, confidence):
    failures = data.draw(st.integers(0, runs))
    z = statistics.NormalDist().inv_cdf(0.5 + confidence / 2)
    rate = failures / runs
    middle = (rate + z * z / (2 * runs)) / (1 + z * z / runs)
    reach = z / (1 + z * z / runs) * math.sqrt(rate * (1 - rate) / runs + (z / (2 * runs)) ** 2)
    interval = wilson(failures, runs, confidence=confidence)
    assert interval.low == pytest.approx(middle - reach, abs=1e-12)
    assert interval.high == pytest.approx(middle + reach, abs=1e-12)


@pytest.mark.parametrize(
    ("values", "options", "error", "message"),
    [
        ({}, {}, ValueError, "`scores` must hold at least one score"),
        ([1.0], {}, TypeError, "`scores` must be a mapping from seeds to scores"),
        ({"a": 1.0}, {}, TypeError, "`scores` must be an int"),
        ({0: "1"}, {}, TypeError, "`scores` must map to numbers"),
        ({0: True}, {}, TypeError, "`scores` must map to numbers"),
        ({0: 1.0}, {"confidence": 1.0}, ValueError, "`confidence` must be < 1"),
        ({0: 1.0}, {"resamples": 0}, ValueError, "`resamples` must be >= 1"),
    ],
)
def test_summarise_says_what_is_wrong(values, options, error, message):
    with pytest.raises(error, match=f"summarise: {message}"):
        summarise(values, **options)


def test_wilson_refuses_more_failures_than_runs():
    with pytest.raises(ValueError, match="wilson: `failures` must be <= 3, got 4"):
        wilson(4, 3)
