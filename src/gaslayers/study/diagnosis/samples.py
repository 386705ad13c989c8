"""What an evaluation of samples says of a run."""

from __future__ import annotations

from gaslayers.study.diagnosis.rules import Finding
from gaslayers.study.diagnosis.thresholds import Thresholds
from gaslayers.study.metrics import Evaluation, Score

_DIGITS = 10


def find_in_samples(evaluation: Evaluation, thresholds: Thresholds) -> Finding | None:
    """The failure that the samples show, if any."""
    if _share(evaluation.spread) < thresholds.total_spread:
        return Finding("total mode collapse", _compare("Spread", evaluation.spread), None)
    # Before classes and coverage, which say little of images that are not of the real kind.
    if _share(evaluation.precision) < thresholds.least_precision:
        return Finding("quality failure", _compare("Precision", evaluation.precision), None)
    return _find_missing(evaluation, thresholds)


def _find_missing(evaluation: Evaluation, thresholds: Thresholds) -> Finding | None:
    seen, variation = evaluation.classes_seen, evaluation.total_variation
    if seen is not None and seen.value <= 1.0 < seen.floor:
        return Finding("total mode collapse", _compare("Classes seen", seen), None)
    # What a perfect generator shows by chance, where classes are many or samples are few, is none.
    if variation is not None and not _above_chance(variation):
        variation = None
    if seen is not None and seen.limit is not None and seen.value >= seen.limit:
        seen = None
    if variation is not None and variation.value > thresholds.total_variation:
        return Finding(
            "total mode collapse", _compare("Total variation of classes", variation), None
        )
    if seen is not None and seen.value <= thresholds.collapsed_classes / _DIGITS * seen.floor:
        return Finding("mode collapse", _compare("Classes seen", seen), None)
    if variation is not None and variation.value > thresholds.collapsed_variation:
        return Finding("mode collapse", _compare("Total variation of classes", variation), None)
    if _share(evaluation.coverage) < thresholds.collapsed_coverage:
        return Finding("mode collapse", _compare("Coverage", evaluation.coverage), None)
    if seen is not None and seen.value < seen.floor:
        evidence = f"{_compare('Classes seen', seen)} The others have under a tenth of their share."
        return Finding("partial mode collapse", evidence, None)
    return None


def _above_chance(variation: Score) -> bool:
    limit = variation.floor if variation.limit is None else max(variation.limit, variation.floor)
    return variation.value > limit


def _share(score: Score) -> float:
    return score.value / score.floor if score.floor > 0.0 else 1.0


def _compare(what: str, score: Score) -> str:
    return f"{what}: {score.value:.3g}, of real images {score.floor:.3g}."
