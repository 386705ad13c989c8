"""The key under the loss panels, and the styles of line that it explains."""

from __future__ import annotations

from typing import Any

from matplotlib.lines import Line2D

from gaslayers.study.report import original
from gaslayers.study.report.convention import Convention
from gaslayers.study.report.original import Loss
from gaslayers.study.report.runs import Group
from gaslayers.study.report.sheet import INK, SMALL_SIZE, Sheet

SYMBOLS: dict[Loss, str] = {"generator": "$L_G$", "discriminator": "$L_D$"}
LINE_HEIGHT = 0.24
"""Inches."""

ORIGINAL_LINE_STYLE: dict[str, Any] = {"linestyle": (0, (4, 2)), "linewidth": 1.1}
ORIGINAL_MARKER_STYLE: dict[str, Any] = {
    "marker": "o",
    "markersize": 4.5,
    "markerfacecolor": "white",
    "markeredgewidth": 1.1,
}
UNDECIDED_STYLE: dict[str, Any] = {"color": "#9a9a9a", "linestyle": "-", "linewidth": 0.8}
SATURATED_STYLE: dict[str, Any] = {"color": "#9a9a9a", "linestyle": ":", "linewidth": 1.2}


def run_style(*, among_seeds: bool) -> dict[str, Any]:
    """The style of a run's line, thin where a panel holds several seeds."""
    return {"linestyle": "-", "linewidth": 0.8 if among_seeds else 1.2}


def make_key(group: Group, loss: Loss, convention: Convention) -> list[tuple[Line2D, str]]:
    """A line and its meaning for every style that the panels use."""
    symbol = SYMBOLS[loss]
    several = len(group.runs) > len({run.config.case for run in group.runs})
    ours = "this study, one line a seed" if several else "this study"
    key = [(Line2D([], [], color=INK, **run_style(among_seeds=several)), ours)]
    if convention.is_original:
        style = ORIGINAL_LINE_STYLE | ORIGINAL_MARKER_STYLE
        key.append((Line2D([], [], color=INK, **style), original.NOTE))
    undecided = f"D undecided, 1/2 for every image: {symbol} = {convention.undecided:g}"
    key.append((Line2D([], [], **UNDECIDED_STYLE), undecided))
    if convention.saturated:
        values = " or ".join(f"{level:g}" for level in convention.saturated)
        saturated = f"D saturated, 1 or 0 for every image: {symbol} = {values}"
        key.append((Line2D([], [], **SATURATED_STYLE), saturated))
    return key


def draw_key(sheet: Sheet, key: list[tuple[Line2D, str]], *, left: float, top: float) -> None:
    """Place the key on a sheet, one entry a line, in inches from the body's corner."""
    height = len(key) * LINE_HEIGHT
    axes = sheet.add_axes(left=left, top=top, width=sheet.width - left, height=height)
    axes.set_axis_off()
    lines, texts = zip(*key, strict=True)
    axes.legend(
        lines,
        texts,
        loc="center left",
        borderaxespad=0,
        borderpad=0,
        frameon=False,
        fontsize=SMALL_SIZE,
        labelcolor=INK,
        labelspacing=0.45,
    )
