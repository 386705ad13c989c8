"""Samples of settings at the end of training."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.figure import Figure

from gaslayers.study.audit import Setting
from gaslayers.study.report.audit.words import label_settings
from gaslayers.study.report.samples import CELL_HEIGHT, CELL_WIDTH, COLUMNS, GAP, read_grid
from gaslayers.study.report.sheet import FAINT, INK, SMALL_SIZE, Sheet

_LABEL, _NOTE, _ROW_GAP = 0.18, 0.18, 0.1


def draw_final_samples(settings: Sequence[Setting], title: str) -> Figure:
    """Draw 32 images of the lowest seed of each setting, with the verdict on that run."""
    labels, legend = label_settings(settings)
    cell = _LABEL + _NOTE + CELL_HEIGHT
    sheet = Sheet(
        title,
        [
            "at the end of training, of the lowest seed, with the verdict on that run",
            *([f"settings: {legend}"] if legend else []),
        ],
        body=math.ceil(len(settings) / COLUMNS) * (cell + _ROW_GAP),
    )
    for index, setting in enumerate(settings):
        row, column = divmod(index, COLUMNS)
        left, top = GAP + column * (CELL_WIDTH + GAP), row * (cell + _ROW_GAP)
        seed, judged = next(iter(setting.runs.items()))
        sheet.write(labels[index], left=left, top=top, size=SMALL_SIZE, color=INK)
        note = f"seed {seed}: {judged.verdict.name}"
        sheet.write(note, left=left, top=top + _LABEL, size=SMALL_SIZE, color=FAINT)
        sheet.add_grid(
            read_grid(judged.run, judged.run.config.iterations),
            left=left,
            top=top + _LABEL + _NOTE,
            width=CELL_WIDTH,
            height=CELL_HEIGHT,
        )
    return sheet.figure
