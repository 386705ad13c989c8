"""Numbers that prose quotes, each read from a committed record by name.

    faithful/original final L_D
    faithful/inception_8 L_D at 1000
    faithful/inception_16 first L_D below 7
    faithful/original kept, plain over faithful/inception_8
    faithful/inception_32 parameters of faithful/original
    2018/inception_8 lowest L_D
    lean_without_kernels slower

A name begins with where the number is from: a preset and a case of the study, the plots of 2018 and
a case, or a benchmark. ``over`` another place divides by the same number there, ``of`` says the
share of it.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark_records import LEAN

from gaslayers.study import CurvePoint, Run, read_run
from gaslayers.study.report.original import read_original_curves

ROOT = Path(__file__).resolve().parents[2]

_NAME = re.compile(r"(?P<place>[\w/]+) (?P<what>.+?)(?: (?P<relation>over|of) (?P<other>[\w/]+))?")
_READING = re.compile(r"(?P<curve>L_D|L_G) at (?P<iteration>\d+)")
_CROSSING = re.compile(r"first (?P<curve>L_D|L_G) (?P<side>below|above) (?P<level>[\d.]+)")

CURVES = {"L_D": "discriminator_loss", "L_G": "generator_loss"}


class UnknownFigureError(ValueError):
    """No record holds a number of this name."""


@dataclass(frozen=True)
class Figure:
    """A number, how it is written, and the files that it comes from."""

    value: float
    text: str
    sources: tuple[Path, ...]


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _mebibytes(value: float) -> str:
    return f"{value / 2**20:.2f} MiB"


def _predicted(name: str) -> Callable[[Run], float]:
    return lambda run: getattr(run.record.memory_predicted, name)


OF_RUN: dict[str, tuple[Callable[[Run], float], Callable[[float], str]]] = {
    "iterations": (lambda run: run.record.iterations_done, "{:.0f}".format),
    "batch": (lambda run: run.config.batch_size, _count),
    "parameters": (lambda run: run.record.discriminator_parameters, _count),
    "FLOPs": (lambda run: run.record.discriminator_forward_flops, _count),
    "kept, plain": (_predicted("saved_bytes_plain"), _mebibytes),
    "kept, lean": (_predicted("saved_bytes"), _mebibytes),
    "peak, plain": (_predicted("tensor_peak_plain"), _mebibytes),
    "final L_D": (lambda run: run.curves[-1].discriminator_loss, "{:.4g}".format),
    "final L_G": (lambda run: run.curves[-1].generator_loss, "{:.4g}".format),
    "highest L_G": (lambda run: max(p.generator_loss for p in run.curves), "{:.3g}".format),
    "lowest L_D": (lambda run: min(p.discriminator_loss for p in run.curves), "{:.3g}".format),
    "first logit spread": (lambda run: run.curves[0].real_logit_std, "{:.1e}".format),
}
"""What a run says by name; "first" is the first reading, one iteration after the start."""

OF_BENCHMARK: dict[str, tuple[Callable[[list[float]], float], Callable[[float], str]]] = {
    "works": (len, _count),
    "slower": (lambda times: sum(time > 1 for time in times), _count),
    "longest": (max, "{:.2f}".format),
    "median": (statistics.median, "{:.2f}".format),
}
"""What a benchmark says of the times of its lean ways, each relative to plain."""


def find_figure(name: str) -> Figure:
    """Look up a number by its name.

    Raises:
        UnknownFigureError: The name is none, or the record does not hold it.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise UnknownFigureError(f"`{name}` must be a place and what is read there")
    figure = _look_up(match["place"], match["what"])
    if match["relation"] is None:
        return figure
    other = _look_up(match["other"], match["what"])
    ratio = figure.value / other.value
    text = f"{ratio:.0%}".replace("%", " %") if match["relation"] == "of" else _round(ratio)
    return Figure(ratio, text, (*figure.sources, *other.sources))


def _round(ratio: float) -> str:
    """Two digits: what a ratio of two numbers of one seed is good for."""
    return f"{float(f'{ratio:.2g}'):,g}"


def _look_up(place: str, what: str) -> Figure:
    folder, _, case = place.partition("/")
    if not case:
        return _look_up_benchmark(folder, what)
    if folder == "2018":
        return _look_up_original(case, what)
    path = ROOT / "examples" / "records" / folder / f"{case}-as_coded-seed0"
    try:
        run = read_run(path)
    except (FileNotFoundError, ValueError) as error:
        raise UnknownFigureError(f"`{place}`: {error}") from error
    points = [(point.iteration, point) for point in run.curves]
    if what in OF_RUN:
        read, write = OF_RUN[what]
        value = read(run)
        text = write(value)
    else:
        value, text = _read_curve(place, what, points)
    return Figure(value, text, (path / "record.json", path / "curves.csv"))


def _read_curve(
    place: str, what: str, points: Sequence[tuple[int, CurvePoint]]
) -> tuple[float, str]:
    """A reading at an iteration, or the iteration of the first one beyond a level."""
    if match := _READING.fullmatch(what):
        for iteration, point in points:
            if iteration == int(match["iteration"]):
                value = getattr(point, CURVES[match["curve"]])
                return value, f"{value:.4g}"
    if match := _CROSSING.fullmatch(what):
        level, is_below = float(match["level"]), match["side"] == "below"
        for iteration, point in points:
            value = getattr(point, CURVES[match["curve"]])
            if value < level if is_below else value > level:
                return iteration, str(iteration)
    raise UnknownFigureError(f"`{place}` has no `{what}`")


def _look_up_original(case: str, what: str) -> Figure:
    kinds = {"L_D": "discriminator", "L_G": "generator"}
    choose: dict[str, Callable[[list[float]], float]] = {
        "lowest": min,
        "highest": max,
        "last": lambda losses: losses[-1],
    }
    word, _, curve = what.partition(" ")
    if word not in choose or curve not in kinds:
        raise UnknownFigureError(f"`2018/{case}` has no `{what}`")
    curves = read_original_curves(kinds[curve])  # type: ignore[arg-type]
    if case not in curves:
        raise UnknownFigureError(f"the plots of 2018 have no case `{case}`")
    value = choose[word](curves[case].losses)
    return Figure(value, f"{value:g}", ())


def _look_up_benchmark(name: str, what: str) -> Figure:
    path = ROOT / "benchmarks" / "records" / f"{name}.json"
    try:
        works: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["work"]
    except FileNotFoundError as error:
        raise UnknownFigureError(f"the record `{path}` is missing") from error
    if what not in OF_BENCHMARK:
        raise UnknownFigureError(f"`{name}` has no `{what}`")
    rows = [work["rows"].get(LEAN, {}) for work in works.values()]
    times = [row["time_ratio"] for row in rows if "time_ratio" in row]
    read, write = OF_BENCHMARK[what]
    value = read(times)
    return Figure(value, write(value), (path,))
