"""A factorial as a heat map: how many runs of every combination are healthy."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from gaslayers.study.audit import Setting
from gaslayers.study.metrics.scores import name_metric
from gaslayers.study.report.audit.words import choices_of, factors_of, spell
from gaslayers.study.report.sheet import FAINT, INK, SMALL_SIZE, Sheet
from gaslayers.study.statistics import summarise

_CELL, _LABEL, _HEAD, _RIGHT = 0.5, 2.7, 0.75, 0.2


def draw_factors(settings: Sequence[Setting], metric: str, title: str) -> Figure:
    """Draw a family of one case with two factors or more: half of them down, half across."""
    factors = factors_of(settings)
    names = list(factors)
    down, across = names[: len(names) // 2], names[len(names) // 2 :]
    rows, columns = (
        list(itertools.product(*(factors[name] for name in some))) for some in (down, across)
    )
    cells = {tuple(choices_of(setting)[name] for name in names): setting for setting in settings}
    sheet = Sheet(
        title,
        [
            "healthy runs of all, and the interquartile mean of the "
            f"{name_metric(metric)}; the darker, the more are healthy"
        ],
        body=_HEAD + _CELL * len(rows) + 0.1,
    )
    width = sheet.width - _LABEL - _RIGHT
    axes = sheet.add_axes(left=_LABEL, top=_HEAD, width=width, height=_CELL * len(rows))
    shares = [[_share(cells.get((*row, *column))) for column in columns] for row in rows]
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.6, aspect="auto")
    for (y, row), (x, column) in itertools.product(enumerate(rows), enumerate(columns)):
        text = _describe(cells.get((*row, *column)), metric)
        axes.text(x, y, text, ha="center", va="center", size=SMALL_SIZE, color=INK)
    axes.set_xticks(range(len(columns)), ["\n".join(map(spell, column)) for column in columns])
    axes.set_yticks(range(len(rows)), [", ".join(map(spell, row)) for row in rows])
    axes.xaxis.tick_top()
    # What the values are of stands to the left of the columns, and above the rows.
    right: dict[str, Any] = {"ha": "right", "size": SMALL_SIZE, "color": FAINT}
    across_words = "\n".join(name.replace("_", " ") for name in across)
    sheet.write(across_words, left=_LABEL - 0.08, top=_HEAD - 0.2 * len(across) - 0.05, **right)
    down_words = "rows: " + ", ".join(name.replace("_", " ") for name in down)
    sheet.write(down_words, left=_LABEL - 0.08, top=0.02, **right)
    axes.tick_params(labelsize=SMALL_SIZE, length=0, labelcolor=INK)
    axes.spines[:].set_color(FAINT)
    return sheet.figure


def _share(setting: Setting | None) -> float:
    if setting is None:
        return 0.0
    return 1.0 - len(setting.failures()) / len(setting.runs)


def _describe(setting: Setting | None, metric: str) -> str:
    if setting is None:
        return "not run"
    healthy = len(setting.runs) - len(setting.failures())
    middle = summarise(setting.scores(metric)).interquartile_mean
    return f"{healthy} of {len(setting.runs)}\n{middle:.3g}"
