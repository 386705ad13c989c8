"""32 generated digits of each of the six cases on one page, in the study's order."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from gaslayers._checks import bad_value
from gaslayers.models import CASES
from gaslayers.study.config import SAMPLE_COUNT
from gaslayers.study.records import GRID_COLUMNS
from gaslayers.study.report.captions import VARIANT_WORDS, caption_lines, describe_end
from gaslayers.study.report.runs import OWNER, REPEAT, Group, Run
from gaslayers.study.report.sheet import FAINT, INK, SMALL_SIZE, TEXT_SIZE, WIDTH, Sheet

PIXELS_PER_INCH = 100
"""Of the generated pictures. A page drawn at a multiple of it shows them square and sharp."""

COLUMNS = 3
_GRID_PIXELS = (GRID_COLUMNS * 28, math.ceil(SAMPLE_COUNT / GRID_COLUMNS) * 28)
CELL_WIDTH, CELL_HEIGHT = (pixels / PIXELS_PER_INCH for pixels in _GRID_PIXELS)
GAP = (WIDTH - COLUMNS * CELL_WIDTH) / (COLUMNS + 1)
_LABEL, _NOTE, _ROW_GAP = 0.2, 0.18, 0.1


def read_grid(run: Run, iteration: int) -> NDArray[np.uint8] | None:
    """A run's grid at an iteration, or its last one before; None where there is none.

    Raises:
        ValueError: The picture is damaged.
    """
    iterations = [there for there in run.samples if there <= iteration]
    if not iterations:
        return None
    path = run.samples[iterations[-1]]
    rule = f"be a grid of {_GRID_PIXELS[0]} x {_GRID_PIXELS[1]} pixels"
    try:
        with Image.open(path) as picture:
            grey = picture.convert("L")
    except (OSError, SyntaxError) as error:  # Pillow raises the second for a broken PNG chunk
        raise bad_value(OWNER, str(path), rule, str(error), REPEAT) from error
    if grey.size != _GRID_PIXELS:
        raise bad_value(OWNER, str(path), rule, grey.size, REPEAT)
    return np.asarray(grey)


def shown_runs(group: Group) -> dict[str, Run]:
    """The run of each case whose samples are shown: that of the lowest seed."""
    return {case: group.runs_of(case)[0] for case in CASES if group.runs_of(case)}


def draw_samples(group: Group, iteration: int) -> Figure:
    """Draw the samples of all cases after an iteration."""
    shown = shown_runs(group)
    seeds = {run.config.seed for run in shown.values()}
    notes = {case: describe_end(run) for case, run in shown.items()}
    ends = {case: run.record.iterations_done for case, run in shown.items()}
    has_notes = any(notes.values())
    cell = _LABEL + has_notes * _NOTE + CELL_HEIGHT
    sheet = Sheet(
        f"Samples after iteration {iteration}, {VARIANT_WORDS[group.config.variant]}",
        caption_lines(group, shown.values()),
        body=math.ceil(len(CASES) / COLUMNS) * (cell + _ROW_GAP),
    )
    for index, case in enumerate(CASES):
        row, column = divmod(index, COLUMNS)
        left = GAP + column * (CELL_WIDTH + GAP)
        top = row * (cell + _ROW_GAP)
        seed = f", seed {shown[case].config.seed}" if case in shown and len(seeds) > 1 else ""
        note = notes[case] if case in shown and iteration >= ends[case] else ""
        # The label stands next to its picture, above its note where it has one.
        label_top = top if note or not has_notes else top + _NOTE
        sheet.write(case + seed, left=left, top=label_top, size=TEXT_SIZE, color=INK)
        sheet.write(note, left=left, top=top + _LABEL, size=SMALL_SIZE, color=FAINT)
        sheet.add_grid(
            read_grid(shown[case], iteration) if case in shown else None,
            left=left,
            top=top + cell - CELL_HEIGHT,
            width=CELL_WIDTH,
            height=CELL_HEIGHT,
            why_empty="no samples" if case in shown else group.why_empty(case),
        )
    return sheet.figure
