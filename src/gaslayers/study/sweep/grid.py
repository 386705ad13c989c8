"""A grid of runs, read from a file: families of cases, variants, seeds and factors."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
)
from pydantic_core import PydanticCustomError

from gaslayers._checks import bad_value
from gaslayers.models import CASES
from gaslayers.study.config import PRESETS, SWITCHES, RunConfig, make_configs
from gaslayers.study.records import write_atomically
from gaslayers.study.sweep.runs import Planned
from gaslayers.study.toml_files import read_toml, refuse

GRID_FILE = "grid.toml"
HYPOTHESES_FILE = "hypotheses.toml"
"""Their names in the folder of a sweep."""

_OWNER = "read_grid"
_MOST_SEEDS = 100_000
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_OPTIONS = sorted(
    {*RunConfig.model_fields, *SWITCHES} - {"case", "variant", "seed", "data_sha256", "switches"}
)

Value = bool | int | float | str
"""Of an option or a factor."""


class Family(BaseModel):
    """Runs that differ in case, variant, seed and factors.

    Args:
        cases: By default all six.
        variants: Of each case.
        seeds: A list of them, or how many from 0 on.
        preset: In place of the grid's.
        options: Fields of `gaslayers.study.RunConfig`, and switches of the discriminator
            (`gaslayers.models.Switches`), with a value that all runs have.
        factors: The same with lists of values, of which every combination is run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cases: list[str] = list(CASES)
    variants: list[str] = ["modern"]
    seeds: list[int] = Field(min_length=1)
    preset: str | None = None
    options: dict[str, Value] = {}
    factors: dict[str, list[Value]] = {}

    @field_validator("seeds", mode="before")
    @classmethod
    def _count_seeds(cls, value: Any) -> Any:
        if not isinstance(value, int) or isinstance(value, bool):
            return value
        if not 1 <= value <= _MOST_SEEDS:
            message = "Input should be a list of seeds, or how many: from 1 to {most}"
            raise PydanticCustomError("seeds", message, {"most": _MOST_SEEDS})
        return list(range(value))


class Grid(BaseModel):
    """A grid of runs.

    Args:
        preset: Of families that name none.
        hypotheses: A file of what the runs are to test, beside the grid's; its hash goes into every
            record.
        options: As those of a family, of all families that do not say otherwise.
        families: By name, which is the name of their folder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: str = "narrow"
    hypotheses: str | None = None
    options: dict[str, Value] = {}
    families: dict[str, Family] = Field(min_length=1)
    _path: Path = PrivateAttr()
    _hypotheses_sha256: str | None = PrivateAttr(default=None)

    def put_into(self, out: Path) -> None:
        """Copy the grid and its hypotheses into the folder of a sweep, for who reads it alone.

        Raises:
            ValueError: The folder is that of a sweep with other hypotheses.
        """
        sources = {GRID_FILE: self._path}
        if self.hypotheses is not None:
            sources[HYPOTHESES_FILE] = self._path.parent / self.hypotheses
            there = out / HYPOTHESES_FILE
            if there.exists() and there.read_bytes() != sources[HYPOTHESES_FILE].read_bytes():
                rule = f"have the hypotheses of the grid, {self.hypotheses}"
                remedy = "Runs that were made for others do not answer them: choose another folder."
                raise bad_value("Grid.put_into", "out", rule, str(there), remedy)
        for name, source in sources.items():
            if (out / name).resolve() != source.resolve():
                write_atomically(out / name, source.read_bytes())

    def plan(
        self,
        out: Path,
        *,
        data_sha256: str,
        families: Sequence[str] = (),
        seeds: Sequence[int] = (),
    ) -> list[Planned]:
        """Every run, by seed, so that a sweep that is stopped has the same seeds of all settings.

        A family without factors is one study in ``out/<family>``. With factors there is a study for
        each of their combinations, in ``out/<family>/<factor>_<value>-...``.

        Args:
            out: The sweep's folder.
            data_sha256: Content of the digits.
            families: By name; empty: all.
            seeds: Those of them that are run; empty: all.

        Raises:
            ValueError: There is no such family, no run is left, a run is there twice, or its
                configuration is refused.
        """
        for name in families:
            if name not in self.families:
                rule = f"be among {', '.join(self.families)}"
                raise bad_value("Grid.plan", "families", rule, name)
        planned = [
            run
            for name in dict.fromkeys(families or self.families)
            for run in self._plan_family(name, out, data_sha256)
        ]
        if seeds:
            planned = [run for run in planned if run.config.seed in seeds]
        if not planned:
            raise bad_value("Grid.plan", "seeds", "leave a run", list(seeds))
        return sorted(planned, key=lambda run: run.config.seed)

    def _plan_family(self, name: str, out: Path, data_sha256: str) -> list[Planned]:
        family = self.families[name]
        preset = family.preset or self.preset
        planned = []
        for values in itertools.product(*family.factors.values()):
            factors = dict(zip(family.factors, values, strict=True))
            folder = out / name_folder(name, factors)
            try:
                configs = make_configs(
                    preset,
                    cases=family.cases,
                    variants=family.variants,
                    seeds=family.seeds,
                    data_sha256=data_sha256,
                    options=_sort_options({**self.options, **family.options, **factors}),
                )
            except ValidationError as error:
                raise refuse(_OWNER, f"families.{name}", error) from error
            planned += [
                Planned(config, folder, preset, self._hypotheses_sha256) for config in configs
            ]
        counts = Counter(run.config.config_hash for run in planned)
        for run in planned:
            if counts[run.config.config_hash] > 1:
                where = f"families.{name}"
                raise bad_value(_OWNER, where, "have each run once", str(run.run_folder.path))
        return planned


def read_grid(path: Path) -> Grid:
    """Read a grid from a TOML file.

    Raises:
        FileNotFoundError: The file, or that of its hypotheses, is missing.
        ValueError: It is no grid, which the message says of what.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "grid.toml"
        >>> _ = path.write_text('''
        ... [families.width]
        ... cases = ["original"]
        ... seeds = 3
        ... factors.base_filters = [8, 16]
        ... ''')
        >>> planned = read_grid(path).plan(Path("out"), data_sha256="0" * 64)
        >>> len(planned), planned[0].folder.as_posix(), planned[0].config.name
        (6, 'out/width/base_filters_8', 'original-modern-seed0')
    """
    grid = read_toml(_OWNER, path, Grid)
    grid._path = path
    _check_preset("preset", grid.preset)
    _check_names("options", grid.options)
    for name, family in grid.families.items():
        _check_family(name, family)
    if grid.hypotheses is None:
        return grid
    content = (path.parent / grid.hypotheses).read_bytes()
    grid._hypotheses_sha256 = hashlib.sha256(content).hexdigest()
    return grid


def name_folder(family: str, factors: Mapping[str, Value]) -> Path:
    """Where the runs of a family with these factors go, below the folder of the sweep."""
    if not factors:
        return Path(family)
    return Path(family, "-".join(f"{name}_{_spell(value)}" for name, value in factors.items()))


def _check_preset(where: str, preset: str) -> None:
    if preset not in PRESETS:
        raise bad_value(_OWNER, where, f"be one of {', '.join(PRESETS)}", preset)


def _check_family(name: str, family: Family) -> None:
    where = f"families.{name}"
    if not _NAME.fullmatch(name):
        rule = "have names of small letters, digits and underscores, for folders bear them"
        raise bad_value(_OWNER, "families", rule, name)
    if family.preset is not None:
        _check_preset(f"{where}.preset", family.preset)
    _check_names(where, [*family.options, *family.factors])
    for key, values in family.factors.items():
        if key in family.options:
            rule = "be either an option or a factor"
            raise bad_value(_OWNER, f"{where}.{key}", rule, "both")
        if not values or len({_spell(value) for value in values}) < len(values):
            raise bad_value(_OWNER, f"{where}.{key}", "be values that differ", values)


def _check_names(where: str, names: Iterable[str]) -> None:
    for name in names:
        if name not in _OPTIONS:
            rule = f"have options and factors among {', '.join(_OPTIONS)}"
            raise bad_value(_OWNER, where, rule, name)


def _sort_options(options: Mapping[str, Value]) -> dict[str, Any]:
    """Options of the run, and among them those of the discriminator's switches."""
    switches = {key: value for key, value in options.items() if key in SWITCHES}
    rest = {key: value for key, value in options.items() if key not in SWITCHES}
    return {**rest, "switches": switches}


def _spell(value: Value) -> str:
    """A value in the name of a folder."""
    return str(value).lower()
