"""Each kind of test of a hypothesis, against statistics that other libraries compute."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from scipy import stats

from gaslayers.study.audit import audit, read_hypotheses, read_settings
from gaslayers.study.audit.decisions import decide, decide_all

FIRST = 'first = {family = "small", case = "inception_8"}'
SECOND = 'second = {family = "modern", case = "original"}'


def ask(kind, *lines):
    rows = ["[[questions]]", 'id = "one"', 'question = "Which?"', f'kind = "{kind}"', *lines]
    return "\n".join(rows)


def scores(seed, centre, spread=0.03, count=10):
    draw = random.Random(seed)
    return [centre * draw.lognormvariate(0.0, spread) for _ in range(count)]


def answer(sweep):
    ((_, decision),) = audit(sweep.path).questions
    return decision


@pytest.mark.parametrize(
    ("kind", "centre", "spread", "word"),
    [
        ("equal", 5.0, 0.03, "supported"),
        ("equal", 7.0, 0.03, "refuted"),
        ("equal", 3.0, 0.03, "refuted"),
        ("equal", 5.0, 0.6, "undecided"),
        ("worse", 7.0, 0.03, "supported"),
        ("worse", 5.0, 0.03, "refuted"),
        ("worse", 3.0, 0.03, "refuted"),
        ("worse", 5.5, 0.3, "undecided"),
    ],
)
def test_scores_are_compared_seed_by_seed(sweep, kind, centre, spread, word):
    first, second = scores(1, centre, spread), scores(2, 5.0)
    sweep.ask(ask(kind, FIRST, SECOND))
    sweep.plant_all("small", "inception_8", first)
    sweep.plant_all("modern", "original", second)
    found = answer(sweep)
    assert found.word == word
    # The oracle: a 90 % interval of the mean log ratio against the logarithms of the margin.
    changes = np.log(first) - np.log(second)
    interval = stats.ttest_1samp(changes, 0.0).confidence_interval(0.90)
    assert found.interval.low == pytest.approx(math.exp(interval.low))
    assert found.interval.high == pytest.approx(math.exp(interval.high))
    low, high = math.log(0.9), math.log(1.1)
    if kind == "equal":
        inside = low < interval.low and interval.high < high
        outside = interval.low > high or interval.high < low
    else:
        inside, outside = interval.low > high, interval.high < high
    assert word == ("supported" if inside else "refuted" if outside else "undecided")


def test_a_pair_swapped_is_not_the_same_pair(sweep):
    # Pairing matters: the same scores in another order have another interval.
    second = scores(2, 5.0, 0.3)
    sweep.ask(ask("equal", FIRST, SECOND))
    sweep.plant_all("small", "inception_8", [1.01 * score for score in second])
    sweep.plant_all("modern", "original", second)
    assert answer(sweep).word == "supported"
    for seed, score in enumerate(reversed(second)):
        sweep.plant("small", "inception_8", seed, frechet=1.01 * score)
    assert answer(sweep).word == "undecided"


@pytest.mark.parametrize("kind", ["equal", "worse"])
def test_a_run_that_is_not_finite_decides_nothing_about_scores(sweep, kind):
    sweep.ask(ask(kind, FIRST, SECOND))
    sweep.plant_all("small", "inception_8", [*scores(1, 9.0, count=9), math.inf])
    sweep.plant_all("modern", "original", scores(2, 5.0))
    found = answer(sweep)
    assert found.word == "undecided"
    assert "1 of 10 pairs" in found.evidence


@pytest.mark.parametrize(
    ("failures", "word"), [(10, "supported"), (9, "supported"), (5, "undecided"), (1, "refuted")]
)
def test_the_share_of_failed_runs_is_compared_with_a_half(sweep, failures, word):
    sweep.ask(ask("fails", FIRST))
    for seed in range(10):
        sweep.plant("small", "inception_8", seed, failed=seed < failures)
    found = answer(sweep)
    assert found.word == word
    oracle = stats.binomtest(failures, 10).proportion_ci(0.95, method="wilson")
    assert (found.interval.low, found.interval.high) == (oracle.low, oracle.high)
    assert word == (
        "supported" if oracle.low > 0.5 else "refuted" if oracle.high < 0.5 else "undecided"
    )


def test_named_verdicts_alone_count_as_failed(sweep):
    sweep.ask(ask("fails", FIRST, 'verdicts = ["saturated"]'))
    for seed in range(10):
        sweep.plant("small", "inception_8", seed, failed=True)
    assert answer(sweep).word == "refuted"
    sweep.ask(ask("fails", FIRST, 'verdicts = ["mode collapse", "saturated"]'))
    for seed in range(10):
        sweep.plant("small", "inception_8", seed, failed=True)
    assert answer(sweep).word == "supported"


def test_a_run_that_is_not_finite_has_failed(sweep):
    sweep.ask(ask("fails", FIRST, 'verdicts = ["diverged"]'))
    sweep.plant_all("small", "inception_8", [math.nan] * 10)
    assert answer(sweep).word == "supported"


@pytest.mark.parametrize(
    ("first", "second", "word"),
    [(10, 0, "supported"), (8, 2, "supported"), (0, 0, "refuted"), (5, 3, "undecided")],
)
def test_shares_of_two_settings_are_compared(sweep, first, second, word):
    sweep.ask(ask("fails_more", FIRST, SECOND, "margin = 0.5"))
    for seed in range(10):
        sweep.plant("small", "inception_8", seed, failed=seed < first)
        sweep.plant("modern", "original", seed, failed=seed < second)
    assert answer(sweep).word == word


@pytest.mark.parametrize(("saved", "word"), [(100, "supported"), (101, "refuted")])
def test_bytes_are_compared_exactly_and_of_one_run(sweep, saved, word):
    sweep.ask(ask("smaller", "ratio = 1.59", FIRST, SECOND))
    sweep.plant("small", "inception_8", 3, saved=saved)
    sweep.plant("modern", "original", 7, saved=159)
    found = answer(sweep)
    assert found.word == word
    assert found.interval is None
    assert found.estimate == 159 / saved


def test_fewer_seeds_than_asked_for_decide_nothing(sweep):
    sweep.ask(ask("fails", FIRST))
    for seed in range(9):
        sweep.plant("small", "inception_8", seed, failed=True)
    found = answer(sweep)
    assert (found.word, found.estimate) == ("undecided", None)
    assert "9 of 10 runs of inception_8 (small)" in found.evidence
    sweep.plant("small", "inception_8", 10, failed=True)  # a seed that nobody asked for
    assert answer(sweep).word == "undecided"
    sweep.plant("small", "inception_8", 9, failed=True)
    assert answer(sweep).word == "supported"


def test_seeds_beyond_those_asked_for_have_no_say(sweep):
    sweep.ask(ask("fails", FIRST))
    for seed in range(30):
        sweep.plant("small", "inception_8", seed, failed=seed >= 10)
    assert answer(sweep).word == "refuted"


def test_a_setting_is_found_by_its_factors(sweep):
    place = 'first = {family = "width", factors = {base_filters = 8}, case = "original"}'
    sweep.ask(ask("fails", place))
    for seed in range(10):
        sweep.plant("width/base_filters_8", "original", seed, failed=True, base_filters=8)
        sweep.plant("width/base_filters_16", "original", seed, base_filters=16)
    assert answer(sweep).word == "supported"


def test_holm_makes_a_narrow_decision_undecided_among_many(sweep):
    tests = "\n".join(
        ask("equal", f'first = {{family = "f{number}", case = "inception_8"}}', SECOND).replace(
            '"one"', f'"{number}"'
        )
        for number in range(8)
    )
    sweep.ask(tests)
    second = scores(2, 5.0)
    sweep.plant_all("modern", "original", second)
    for number in range(8):
        sweep.plant_all(f"f{number}", "inception_8", scores(10 + number, 5.0, 0.14))
    hypotheses = read_hypotheses(sweep.path / "hypotheses.toml")
    settings = read_settings(sweep.path)
    alone = [decide(test, settings, hypotheses) for test in hypotheses.questions]
    together = decide_all(hypotheses.questions, settings, hypotheses)
    p_values = [decision.p_value for decision in alone]
    # The oracle: Holm's steps by hand.
    order = sorted(range(8), key=lambda index: p_values[index])
    passed = set()
    for rank, index in enumerate(order):
        if p_values[index] * (8 - rank) >= 0.05:
            break
        passed.add(index)
    decided = {index for index, one in enumerate(together) if one.word != "undecided"}
    assert decided == passed
    assert passed < {index for index, one in enumerate(alone) if one.word != "undecided"}
