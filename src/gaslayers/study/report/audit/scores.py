"""Every run's score, a row a setting, with the middle of the runs and its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from gaslayers.study.audit import Setting
from gaslayers.study.metrics.scores import name_metric
from gaslayers.study.report.audit.words import label_settings
from gaslayers.study.report.sheet import (
    COLOURS,
    DARK_COLOURS,
    FAINT,
    INK,
    SMALL_SIZE,
    TEXT_SIZE,
    Sheet,
)
from gaslayers.study.statistics import summarise

# Inches.
_ROW, _AXIS, _RIGHT = 0.3, 0.5, 0.25
_TOP = 0.2
"""For what is written above the first row."""
_LEFT = 2.9
"""For the settings' names."""
_SPREAD = 0.12
"""How far apart in its row the lowest and the highest seed stand, in rows."""


def draw_scores(settings: Sequence[Setting], metric: str, title: str) -> Figure:
    """Draw the scores of settings on one logarithmic axis, real images' floor behind them."""
    labels, legend = label_settings(settings)
    words = name_metric(metric)
    sheet = Sheet(
        title,
        [
            f"{words}, lower is better; a point a run, a cross a failed one",
            "bar: 95 % interval of the interquartile mean, where there are six runs or more",
            *([f"settings: {legend}"] if legend else []),
        ],
        body=_TOP + len(settings) * _ROW + _AXIS,
    )
    axes = sheet.add_axes(
        left=_LEFT, top=_TOP, width=sheet.width - _LEFT - _RIGHT, height=len(settings) * _ROW
    )
    floors = [floor for setting in settings for floor in _floors(setting, metric)]
    axes.axvline(max(floors), color=FAINT, linestyle=":", linewidth=1.0, zorder=1)
    axes.text(max(floors), -0.55, " real images", size=SMALL_SIZE, color=FAINT, va="bottom")
    for row, setting in enumerate(settings):
        scores = setting.scores(metric)
        failed = setting.failures()
        colour = COLOURS[setting.case]
        count = len(scores)
        for number, (seed, score) in enumerate(scores.items()):
            if not math.isfinite(score):
                continue
            place = row + _SPREAD * (2 * number / max(1, count - 1) - 1)
            marker = "x" if seed in failed else "o"
            axes.plot([score], [place], marker, color=colour, markersize=4.5, zorder=3)
        interval = summarise(scores).interval
        if interval is not None and math.isfinite(interval.high):
            axes.plot(
                [interval.low, interval.high],
                [row, row],
                color=DARK_COLOURS[setting.case],
                linewidth=5.0,
                alpha=0.35,
                zorder=2,
            )
    axes.set(xscale="log", ylim=(len(settings) - 0.5, -0.6))
    axes.xaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.minorticks_off()
    axes.set_yticks(range(len(settings)), labels)
    axes.tick_params(axis="y", labelsize=SMALL_SIZE, length=0, labelcolor=INK)
    axes.tick_params(axis="x", labelsize=SMALL_SIZE, color=FAINT)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.set_xlabel(words, size=TEXT_SIZE, color=INK)
    return sheet.figure


def _floors(setting: Setting, metric: str) -> list[float]:
    """What real images get, of each run whose samples were judged."""
    evaluations = [judged.run.record.evaluation for judged in setting.runs.values()]
    return [getattr(evaluation, metric).floor for evaluation in evaluations if evaluation]
