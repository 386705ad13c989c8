"""What a setting's samples are worth against what its discriminator keeps in memory."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from gaslayers.study.audit import Setting
from gaslayers.study.metrics.scores import name_metric
from gaslayers.study.report.sheet import COLOURS, FAINT, INK, SMALL_SIZE, TEXT_SIZE, Sheet
from gaslayers.study.statistics import summarise

_LEFT, _RIGHT, _AXIS, _HEIGHT = 0.7, 1.3, 0.5, 3.6
_MEBIBYTE = 2**20


def find_frontier(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other beats in both numbers, lower being better, from left to right."""
    frontier: list[tuple[float, float]] = []
    for point in sorted(points):
        if not frontier or point[1] < frontier[-1][1]:
            frontier.append(point)
    return frontier


def draw_pareto(settings: Sequence[Setting], metric: str) -> Figure | None:
    """Draw settings whose middle is finite; None where there are none."""
    points = {}
    for setting in settings:
        memory = setting.first.record.memory_predicted
        middle = summarise(setting.scores(metric)).interquartile_mean
        if memory is not None and math.isfinite(middle):
            points[setting] = (memory.saved_bytes_plain / _MEBIBYTE, middle)
    if not points:
        return None
    sheet = Sheet(
        "Quality against memory",
        [
            f"interquartile mean of the {name_metric(metric)}, lower is better",
            "memory: what a plain D step saves for its backward pass; hollow: half of the runs or "
            "more failed; line: what no other setting beats in both",
        ],
        body=_HEIGHT + _AXIS,
    )
    axes = sheet.add_axes(left=_LEFT, top=0.0, width=sheet.width - _LEFT - _RIGHT, height=_HEIGHT)
    frontier = find_frontier(list(points.values()))
    axes.step(*zip(*frontier, strict=True), where="post", color=FAINT, linewidth=1.0, zorder=1)
    for setting, point in points.items():
        colour = COLOURS[setting.case]
        fails = 2 * len(setting.failures()) >= len(setting.runs)
        face = "white" if fails else colour
        axes.plot(*point, "o", color=colour, markerfacecolor=face, markersize=6, zorder=3)
        if point in frontier:
            axes.annotate(
                _name(setting),
                point,
                xytext=(6, 4),
                textcoords="offset points",
                size=SMALL_SIZE,
                color=INK,
            )
    axes.set(xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter("{x:g}")
        axis.minorticks_off()
    axes.tick_params(labelsize=SMALL_SIZE, color=FAINT)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.set_xlabel("D step saves, MiB", size=TEXT_SIZE, color=INK)
    axes.set_ylabel(name_metric(metric), size=TEXT_SIZE, color=INK)
    return sheet.figure


def _name(setting: Setting) -> str:
    """Its case and, where they are few, its factors."""
    _, _, factors = setting.folder.partition("/")
    spelled = factors.replace("_", " ") if factors.count("-") == 0 else setting.family
    return f"{setting.case}, {spelled or setting.family}"
