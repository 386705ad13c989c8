"""Losses of settings over iterations: the median of their runs, and where the middle half lies."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gaslayers.study.audit import Setting
from gaslayers.study.report.audit.words import label_settings
from gaslayers.study.report.curves import style_axes
from gaslayers.study.report.key import SYMBOLS
from gaslayers.study.report.original import Loss
from gaslayers.study.report.sheet import COLOURS, INK, SMALL_SIZE, Sheet

_COLUMNS = 2
_LEFT, _RIGHT, _GAP = 0.6, 0.2, 0.22
_TITLE, _PANEL, _AXIS = 0.32, 1.3, 0.5


def draw_bands(settings: Sequence[Setting], title: str) -> Figure:
    """Draw both losses of each setting, a panel a setting; L_G is dashed."""
    rows = math.ceil(len(settings) / _COLUMNS)
    sheet = Sheet(
        title,
        ["L_D solid, L_G dashed: median of the runs; band: their middle half"],
        body=rows * (_TITLE + _PANEL) + _AXIS,
    )
    labels, _ = label_settings(settings)
    width = (sheet.width - _LEFT - _RIGHT - (_COLUMNS - 1) * _GAP) / _COLUMNS
    bands = {
        (setting, loss): _band(setting, loss)
        for setting in settings
        for loss in ("discriminator", "generator")
    }
    top = max(float(np.nanmax(band[2])) for _, band in bands.values())
    for index, setting in enumerate(settings):
        row, column = divmod(index, _COLUMNS)
        axes = sheet.add_axes(
            left=_LEFT + column * (width + _GAP),
            top=_TITLE + row * (_TITLE + _PANEL),
            width=width,
            height=_PANEL,
        )
        for loss, line in (("discriminator", "-"), ("generator", "--")):
            _draw(axes, setting, *bands[setting, loss], line)
        last = setting.first.config.iterations
        axes.set(xlim=(-0.01 * last, 1.02 * last), ylim=(-0.04 * top, 1.05 * top))
        is_bottom = index + _COLUMNS >= len(settings)
        style_axes(axes, labels[index], is_left=column == 0, is_bottom=is_bottom)
        if column == 0:
            label = f"{SYMBOLS['discriminator']}, {SYMBOLS['generator']}"
            axes.set_ylabel(label, size=SMALL_SIZE, color=INK)
    return sheet.figure


def _band(setting: Setting, loss: Loss) -> tuple[list[int], np.ndarray]:
    """The iterations that all runs were read at, and the three quartiles of their losses."""
    curves = [
        {point.iteration: getattr(point, f"{loss}_loss") for point in judged.run.curves}
        for judged in setting.runs.values()
    ]
    iterations = sorted(set.intersection(*map(set, curves)))
    values = np.array([[curve[iteration] for iteration in iterations] for curve in curves])
    return iterations, np.quantile(values, [0.25, 0.5, 0.75], axis=0)


def _draw(axes: Axes, setting: Setting, iterations: list[int], band: np.ndarray, line: str) -> None:
    colour = COLOURS[setting.case]
    axes.fill_between(iterations, band[0], band[2], color=colour, alpha=0.25, linewidth=0.0)
    axes.plot(iterations, band[1], line, color=colour, linewidth=1.2)
