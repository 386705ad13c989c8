"""The finished runs of a study's folder, checked and put into groups that share their pictures."""

from __future__ import annotations

import csv
import itertools
import re
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from gaslayers._checks import bad_value
from gaslayers.models import CASES, VARIANTS
from gaslayers.study.config import PRESETS, RunConfig
from gaslayers.study.records import CurvePoint, Record, RunFolder

OWNER = "write_report"
CONTINUE = "Delete its record.json and run the study again: the run goes on from its checkpoint."
REPEAT = "Delete the run's folder and run the study again."

_RUN_NAME = re.compile(
    rf"(?P<case>{'|'.join(CASES)})-(?P<variant>{'|'.join(VARIANTS)})-seed(?P<seed>\d+)"
)


@dataclass(frozen=True)
class Run:
    """One finished run, read from its folder.

    Args:
        name: The folder's name.
        record: What ran, and how it ended.
        curves: What was read on its way, in order.
        samples: The sample grids by iteration, in order.
    """

    name: str
    record: Record
    curves: list[CurvePoint] = field(repr=False)
    samples: dict[int, Path] = field(repr=False)

    @property
    def config(self) -> RunConfig:
        """What the run was."""
        return self.record.config


@dataclass(frozen=True)
class Unfinished:
    """A run's folder that has no record yet."""

    name: str
    case: str
    variant: str


@dataclass(frozen=True)
class Group:
    """Runs that differ in case and seed alone, so that one picture can show them together.

    Args:
        runs: The finished ones, by case in the study's order, then by seed.
        unfinished: Folders of the same variant without a record.
    """

    runs: tuple[Run, ...]
    unfinished: tuple[Unfinished, ...] = ()

    @property
    def config(self) -> RunConfig:
        """A configuration of which all but case and seed holds for every run."""
        return self.runs[0].config

    @property
    def preset(self) -> str:
        """The preset's name."""
        return self.runs[0].record.preset

    def runs_of(self, case: str) -> tuple[Run, ...]:
        """The runs of one case by seed."""
        return tuple(run for run in self.runs if run.config.case == case)

    def why_empty(self, case: str) -> str:
        """What to say where a case's picture would be."""
        return "unfinished" if case in {folder.case for folder in self.unfinished} else "not run"


@dataclass(frozen=True)
class Study:
    """Everything that a report shows."""

    groups: tuple[Group, ...]
    unfinished: tuple[Unfinished, ...]


def read_study(out: Path) -> Study:
    """Read every run's folder under ``out``.

    Raises:
        FileNotFoundError: No run is finished, or a finished one lacks its curves.
        ValueError: A file is damaged.
    """
    folders = sorted(path for path in out.glob("*") if path.is_dir())
    runs = [read_run(path) for path in folders if RunFolder(path).record_path.exists()]
    matches = [
        _RUN_NAME.fullmatch(path.name)
        for path in folders
        if not RunFolder(path).record_path.exists()
    ]
    unfinished = tuple(
        Unfinished(match[0], match["case"], match["variant"]) for match in matches if match
    )
    if not runs:
        names = ", ".join(folder.name for folder in unfinished) or "none"
        raise FileNotFoundError(
            f"{OWNER}: `{out}` must hold a finished run, which has a record.json, "
            f"got unfinished ones: {names}. Run the study with this folder as its output first."
        )
    runs.sort(key=_order)
    groups = [tuple(members) for _, members in itertools.groupby(runs, key=_group_key)]
    return Study(
        groups=tuple(
            Group(
                members,
                tuple(u for u in unfinished if u.variant == members[0].config.variant),
            )
            for members in groups
        ),
        unfinished=unfinished,
    )


def read_run(path: Path) -> Run:
    """Read one finished run and compare its files with its record.

    Raises:
        FileNotFoundError: The curves are missing.
        ValueError: A file is damaged.
    """
    folder = RunFolder(path)
    try:
        record = folder.read_record()
    except ValidationError as error:
        raise _damaged(folder.record_path, "fit a record's schema", error, CONTINUE) from error
    try:
        curves = folder.read_curves()
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{OWNER}: `{folder.curves_path}` must be there, got no such file. {CONTINUE}"
        ) from error
    except (ValueError, csv.Error) as error:
        raise _damaged(folder.curves_path, "hold a run's curves", error, CONTINUE) from error
    try:
        samples = folder.sample_paths()
    except ValueError as error:
        rule = "hold pictures named by iteration alone"
        raise _damaged(folder.samples_path, rule, error, REPEAT) from error
    if record.outcome == "finished":
        _check_end(folder, record.config.iterations - 1, curves, samples)
    return Run(path.name, record, curves, samples)


def _check_end(
    folder: RunFolder, last: int, curves: list[CurvePoint], samples: dict[int, Path]
) -> None:
    """Raise unless a finished run's curves and samples reach its last iteration."""
    rule = f"end at iteration {last}"
    for path, iterations, remedy in (
        (folder.curves_path, [point.iteration for point in curves], CONTINUE),
        (folder.samples_path, list(samples), REPEAT),
    ):
        end = iterations[-1] if iterations else None
        if end != last:
            raise bad_value(OWNER, str(path), rule, end, remedy)


def _damaged(path: Path, rule: str, error: Exception, remedy: str) -> ValueError:
    fault = str(error)
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        fault = f"{where}: {first['msg']}" if where else first["msg"]
    return bad_value(OWNER, str(path), rule, fault, remedy)


def _group_key(run: Run) -> tuple[int, int, str, str]:
    config, preset = run.config, run.record.preset
    presets = list(PRESETS)
    return (
        list(VARIANTS).index(config.variant),
        presets.index(preset) if preset in presets else len(presets),
        preset,
        config.model_copy(update={"case": "", "seed": 0}).model_dump_json(),
    )


def _order(run: Run) -> tuple[tuple[int, int, str, str], int, int]:
    return _group_key(run), CASES.index(run.config.case), run.config.seed
