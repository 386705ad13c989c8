"""The runs of a sweep by setting, each with its verdict."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gaslayers._checks import bad_value
from gaslayers.models import CASES, VARIANTS
from gaslayers.study.diagnosis import Levels, Reading, Verdict, diagnose, readings_of_curves
from gaslayers.study.metrics.scores import Score
from gaslayers.study.report.runs import Run, read_run

_OWNER = "read_settings"


@dataclass(frozen=True)
class JudgedRun:
    """A finished run and what is wrong with it, if anything."""

    run: Run
    verdict: Verdict

    def score(self, metric: str) -> float:
        """Its value; infinite where the run ended with a number that is not finite.

        Raises:
            ValueError: The samples were not judged.
        """
        if self.run.record.outcome != "finished":
            return math.inf
        found = getattr(self.run.record.evaluation, metric, None)
        if not isinstance(found, Score):
            raise bad_value(_OWNER, self.run.name, f"have its {metric}", found)
        return found.value


@dataclass(frozen=True, eq=False)  # so that pictures can map from settings
class Setting:
    """Runs that differ in their seed alone.

    Args:
        folder: Of its study, below the sweep's.
        case: Its case.
        variant: Its variant.
        runs: By seed, in order.
    """

    folder: str
    case: str
    variant: str
    runs: Mapping[int, JudgedRun]

    @property
    def family(self) -> str:
        """The grid's name for it."""
        return self.folder.split("/")[0]

    @property
    def title(self) -> str:
        """The case, and what its family says of it."""
        _, _, factors = self.folder.partition("/")
        return f"{self.case}, {self.family}" + (f": {factors}" if factors else "")

    @property
    def first(self) -> Run:
        """The run of the lowest seed, for what all runs share."""
        return next(iter(self.runs.values())).run

    def __str__(self) -> str:
        """How its runs ended, in a line."""
        healthy = len(self.runs) - len(self.failures())
        middle = statistics.median(self.scores("frechet_distance").values())
        return (
            f"{self.title}: {healthy} of {len(self.runs)} runs healthy, "
            f"Frechet distance {middle:.3g} in the median"
        )

    def scores(self, metric: str) -> dict[int, float]:
        """By seed."""
        return {seed: run.score(metric) for seed, run in self.runs.items()}

    def failures(self, verdicts: tuple[str, ...] | None = None) -> list[int]:
        """The seeds that failed, or that have one of these verdicts."""
        return [
            seed
            for seed, run in self.runs.items()
            if (run.verdict.name != "healthy" if verdicts is None else run.verdict.name in verdicts)
        ]


def judge(run: Run) -> Verdict:
    """The verdict on a run, from its curves and its samples."""
    record = run.record
    head = record.config.discriminator_switches.head
    readings = readings_of_curves(run.curves, head=head)
    if record.outcome == "non_finite":
        readings.append(Reading(record.iterations_done, discriminator_loss=math.nan))
    levels = None
    if head == "sigmoid":
        batch, reduction = record.config.batch_size, record.config.loss_reduction
        levels = Levels.of(batch_size=batch, reduction=reduction)
    return diagnose(readings, evaluation=record.evaluation, levels=levels)


def read_settings(sweep: Path, *, hypotheses_sha256: str | None = None) -> list[Setting]:
    """Read and judge every finished run below the folder of a sweep.

    Args:
        sweep: The folder, which holds those of its families.
        hypotheses_sha256: What every record has to carry; None: anything.

    Raises:
        FileNotFoundError: No run is finished, or one lacks a file.
        ValueError: A file is damaged, a record's hash is not that of its configuration or of the
            hypotheses, or its samples were not judged.
    """
    found: dict[tuple[str, str, str], dict[int, JudgedRun]] = {}
    paths = sorted(path.parent for path in sweep.glob("**/record.json"))
    if not paths:
        rule = "hold a finished run, which has a record.json"
        raise FileNotFoundError(f"{_OWNER}: `{sweep}` must {rule}, got none.")
    for path in paths:
        run = read_run(path)
        _check(run, path, hypotheses_sha256)
        config = run.config
        key = (path.parent.relative_to(sweep).as_posix(), config.case, config.variant)
        found.setdefault(key, {})[config.seed] = JudgedRun(run, judge(run))
    settings = [Setting(*key, dict(sorted(runs.items()))) for key, runs in found.items()]
    variants = list(VARIANTS)
    return sorted(
        settings,
        key=lambda one: (
            _by_number(one.folder),
            variants.index(one.variant),
            CASES.index(one.case),
        ),
    )


def _by_number(folder: str) -> list[tuple[float, str]]:
    """A key that sorts 8 before 16."""
    parts = re.split(r"(\d+(?:\.\d+)?)", folder)
    return [(float(part), "") if index % 2 else (0.0, part) for index, part in enumerate(parts)]


def _check(run: Run, path: Path, hypotheses_sha256: str | None) -> None:
    record = run.record
    place = str(path / "record.json")
    if record.config_hash != record.config.config_hash:
        rule = f"carry the hash of its configuration, {record.config.config_hash[:12]}"
        raise bad_value(_OWNER, place, rule, record.config_hash[:12])
    if hypotheses_sha256 is not None and record.hypotheses_sha256 != hypotheses_sha256:
        rule = f"carry the hash of the hypotheses, {hypotheses_sha256[:12]}"
        got = record.hypotheses_sha256
        raise bad_value(_OWNER, place, rule, None if got is None else got[:12])
    if record.outcome == "finished" and record.evaluation is None:
        remedy = "`gaslayers sweep` judges samples, `gaslayers study` does not."
        raise bad_value(_OWNER, place, "have an evaluation", None, remedy)
