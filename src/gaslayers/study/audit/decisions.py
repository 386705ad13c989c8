"""One test of a hypothesis: supported, refuted or undecided, with the number that says so."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from scipy import stats

from gaslayers._checks import bad_value
from gaslayers.study.audit.hypotheses import Hypotheses, Kind, Place, Test
from gaslayers.study.audit.settings import Setting
from gaslayers.study.metrics.scores import name_metric
from gaslayers.study.statistics import Interval, holm, newcombe, tost, wilson

Word = Literal["supported", "refuted", "undecided"]


@dataclass(frozen=True)
class Decision:
    """What one test came to.

    Args:
        test: What was asked.
        word: The answer.
        evidence: A sentence with the estimate, its interval, and how many runs it is of.
        estimate: A ratio, a share or a difference of shares; None where there are no runs.
        interval: Of the estimate; None where it is exact or there are no runs.
        p_value: Of tests on scores, before Holm's correction.
    """

    test: Test
    word: Word
    evidence: str
    estimate: float | None = None
    interval: Interval | None = None
    p_value: float | None = None


def decide_all(
    tests: Sequence[Test], settings: Sequence[Setting], hypotheses: Hypotheses
) -> list[Decision]:
    """Decide every test; those on scores together, by Holm's method."""
    found = [decide(test, settings, hypotheses) for test in tests]
    p_values = {
        str(number): decision.p_value
        for number, decision in enumerate(found)
        if decision.p_value is not None
    }
    if not p_values:
        return found
    for number, adjusted in holm(p_values).items():
        decision = found[int(number)]
        if adjusted >= hypotheses.level and decision.word != "undecided":
            evidence = f"{decision.evidence} Undecided by Holm's method, p = {adjusted:.2g}."
            found[int(number)] = replace(decision, word="undecided", evidence=evidence)
    return found


def decide(test: Test, settings: Sequence[Setting], hypotheses: Hypotheses) -> Decision:
    """Decide one test by itself."""
    places = [test.first] if test.second is None else [test.first, test.second]
    # Bytes do not depend on the seed.
    seeds = None if test.kind == "smaller" else range(hypotheses.seeds)
    found = []
    for place in places:
        setting = _find(place, settings)
        if setting is None:
            return Decision(test, "undecided", f"No run of {place} is finished.")
        if seeds is not None:
            there = sum(seed in setting.runs for seed in seeds)
            if there < len(seeds):
                words = f"{there} of {len(seeds)} runs of {place} are finished."
                return Decision(test, "undecided", words)
            setting = replace(setting, runs={seed: setting.runs[seed] for seed in seeds})
        found.append(setting)
    return _DECIDERS[test.kind](test, hypotheses, *found)


def _find(place: Place, settings: Sequence[Setting]) -> Setting | None:
    found = [one for one in settings if (one.folder, one.case) == (place.folder, place.case)]
    if len(found) > 1:
        rule = "be of one variant"
        raise bad_value("audit", str(place), rule, [one.variant for one in found])
    return found[0] if found else None


def _compare_bytes(test: Test, _: Hypotheses, first: Setting, second: Setting) -> Decision:
    sizes = []
    for setting in (first, second):
        memory = setting.first.record.memory_predicted
        if memory is None:
            raise bad_value("audit", setting.first.name, "have its predicted memory", None)
        sizes.append(memory.saved_bytes_plain)
    estimate = sizes[1] / sizes[0]
    wanted = test.ratio or 1.0
    words = (
        f"The D step saves {sizes[0] / 2**20:.2f} MiB in place of {sizes[1] / 2**20:.2f}: "
        f"{estimate:.2f}x less, where {wanted:g}x is claimed."
    )
    return Decision(test, "supported" if estimate >= wanted else "refuted", words, estimate)


def _judge_share(test: Test, hypotheses: Hypotheses, setting: Setting) -> Decision:
    share = test.share or hypotheses.share
    failures, runs = len(setting.failures(test.verdicts)), len(setting.runs)
    interval = wilson(failures, runs, confidence=hypotheses.confidence)
    word = _place(interval, below=share, above=share)
    words = f"{failures} of {runs} runs failed{_name(test)}, {_spell(interval)}."
    return Decision(test, word, words, failures / runs, interval)


def _compare_shares(
    test: Test, hypotheses: Hypotheses, first: Setting, second: Setting
) -> Decision:
    margin = test.margin or hypotheses.margin
    counts = [(len(one.failures(test.verdicts)), len(one.runs)) for one in (first, second)]
    interval = newcombe(*counts, confidence=hypotheses.confidence)
    (failed, runs), (failed_there, runs_there) = counts
    word = _place(interval, below=margin, above=0.0)
    words = (
        f"{failed} of {runs} runs failed{_name(test)}, "
        f"and {failed_there} of {runs_there} of {test.second}: "
        f"a difference of {failed / runs - failed_there / runs_there:.2f}, {_spell(interval)}."
    )
    return Decision(test, word, words, failed / runs - failed_there / runs_there, interval)


def _compare_scores(
    test: Test, hypotheses: Hypotheses, first: Setting, second: Setting
) -> Decision:
    margin = test.margin or hypotheses.margin
    scores = [setting.scores(hypotheses.metric) for setting in (first, second)]
    found = tost(*scores, margin=margin, level=hypotheses.level)
    metric = name_metric(hypotheses.metric)
    if found.failures:
        words = f"{found.failures} of {len(found.pairs)} pairs have a run without a score."
        return Decision(test, "undecided", words, None, None, 1.0)
    low, high = math.log1p(-margin), math.log1p(margin)
    changes = np.log([scores[0][seed] / scores[1][seed] for seed in found.pairs])
    p_above = _one_sided(changes, high, "greater")
    answers: dict[Word, float] = {
        "supported": p_above,
        "refuted": _one_sided(changes, high, "less"),
    }
    if test.kind == "equal":
        p_beyond = min(p_above, _one_sided(changes, low, "less"))
        answers = {"supported": found.p_value, "refuted": p_beyond}
    word, p_value = min(answers.items(), key=lambda answer: answer[1])
    words = (
        f"The {metric} is {found.estimate:.2f} times that of {test.second}, "
        f"{_spell(found.interval)}, over {len(found.pairs)} seeds."
    )
    if p_value >= hypotheses.level:
        word = "undecided"
    return Decision(test, word, words, found.estimate, found.interval, p_value)


def _one_sided(
    changes: np.ndarray[Any, np.dtype[np.float64]], bound: float, side: Literal["greater", "less"]
) -> float:
    """The p-value of the mean change being beyond a bound."""
    if np.ptp(changes) == 0.0:
        is_beyond = changes[0] > bound if side == "greater" else changes[0] < bound
        return 0.0 if is_beyond else 1.0
    return float(stats.ttest_1samp(changes, bound, alternative=side).pvalue)


def _place(interval: Interval, *, below: float, above: float) -> Word:
    """Supported where the interval lies above one bound, refuted where below another."""
    if interval.low > above:
        return "supported"
    return "refuted" if interval.high < below else "undecided"


def _spell(interval: Interval) -> str:
    return f"{100 * interval.confidence:g} % interval {interval.low:.2f} to {interval.high:.2f}"


def _name(test: Test) -> str:
    return "" if test.verdicts is None else f" by {' or '.join(test.verdicts)}"


_DECIDERS: dict[Kind, Callable[..., Decision]] = {
    "equal": _compare_scores,
    "worse": _compare_scores,
    "fails": _judge_share,
    "fails_more": _compare_shares,
    "smaller": _compare_bytes,
}
