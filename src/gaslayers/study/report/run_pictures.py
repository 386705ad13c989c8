"""The pictures of one run: both losses, the samples of every saved iteration, their animation."""

from __future__ import annotations

import math

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gaslayers.study.report.animation import frame_iterations, write_gif
from gaslayers.study.report.captions import VARIANT_WORDS, caption_lines, describe_end
from gaslayers.study.report.convention import convention_of
from gaslayers.study.report.curves import draw_panel, set_limits, style_axes
from gaslayers.study.report.key import LINE_HEIGHT, SYMBOLS, draw_key, make_key
from gaslayers.study.report.limits import highest_loss, last_iteration, losses_of
from gaslayers.study.report.original import Loss, read_original_curves
from gaslayers.study.report.pictures import LOSSES, Picture
from gaslayers.study.report.runs import Group, Run
from gaslayers.study.report.samples import CELL_HEIGHT, CELL_WIDTH, COLUMNS, GAP, read_grid
from gaslayers.study.report.sheet import INK, TEXT_SIZE, WIDTH, Sheet, render

# Inches.
_LEFT, _RIGHT, _TITLE, _AXES = 0.5, 0.2, 0.32, 1.9
_PANEL = _TITLE + _AXES + 0.5
_LABEL, _ROW_GAP = 0.2, 0.1
_ZOOM = 2
"""Of a frame of the animation, which shows one grid."""


@style.context("default")  # whatever the caller's own pictures look like
def draw_run_pictures(run: Run) -> list[Picture]:
    """Draw the losses, the samples and the animation of one run.

    Args:
        run: A finished run, as `read_run` reads it.

    Returns:
        ``losses.png``, and where samples were saved ``samples.png`` and ``training.gif``.
    """
    pictures = [Picture("losses.png", render(_draw_losses(run)), _describe_losses(run))]
    iterations = list(run.samples)
    frames = frame_iterations(Group((run,)))
    animation = write_gif(_draw_frame(run, iteration) for iteration in frames)
    if animation is not None:
        words = f"32 generated digits of {run.name} at iterations"
        listed = f"{words} {', '.join(map(str, iterations))}."
        pictures.append(Picture("samples.png", render(_draw_samples(run)), listed))
        span = f"Animation of {len(frames)} frames: {words} {frames[0]} to {frames[-1]}."
        pictures.append(Picture("training.gif", animation, span))
    return pictures


def _sheet(run: Run, what: str, body: float) -> Sheet:
    group = Group((run,))
    title = f"{what} of {run.config.case}, {VARIANT_WORDS[run.config.variant]}"
    return Sheet(title, caption_lines(group, group.runs), body=body)


def _draw_losses(run: Run) -> Figure:
    """A panel a loss over the whole width, each with its key."""
    group = Group((run,))
    keys = {loss: make_key(group, loss, convention_of(run.config, loss)) for loss in LOSSES}
    heights = {loss: _PANEL + len(keys[loss]) * LINE_HEIGHT for loss in LOSSES}
    sheet = _sheet(run, "Losses", sum(heights.values()))
    top = 0.0
    for loss in LOSSES:
        axes = sheet.add_axes(
            left=_LEFT, top=top + _TITLE, width=WIDTH - _LEFT - _RIGHT, height=_AXES
        )
        _draw_panel(axes, run, loss)
        draw_key(sheet, keys[loss], left=_LEFT, top=top + _PANEL)
        top += heights[loss]
    return sheet.figure


def _draw_panel(axes: Axes, run: Run, loss: Loss) -> None:
    group, case = Group((run,)), run.config.case
    convention = convention_of(run.config, loss)
    originals = read_original_curves(loss) if convention.is_original else {}
    curves = {name: curve for name, curve in originals.items() if name == case}
    right = last_iteration(group, curves)
    curves = {name: curve.until(right) for name, curve in curves.items()}
    set_limits(axes, right=right, top=highest_loss(group, loss, convention, curves))
    style_axes(axes, f"{loss} loss {SYMBOLS[loss]}, {convention.unit}")
    draw_panel(axes, group, case, loss, curves.get(case))


def _draw_samples(run: Run) -> Figure:
    """The grids of all saved iterations in rows of three."""
    cell = _LABEL + CELL_HEIGHT
    rows = math.ceil(len(run.samples) / COLUMNS)
    sheet = _sheet(run, "Samples", rows * (cell + _ROW_GAP))
    for index, iteration in enumerate(run.samples):
        row, column = divmod(index, COLUMNS)
        left, top = GAP + column * (CELL_WIDTH + GAP), row * (cell + _ROW_GAP)
        sheet.write(f"iteration {iteration}", left=left, top=top, size=TEXT_SIZE, color=INK)
        sheet.add_grid(
            read_grid(run, iteration),
            left=left,
            top=top + _LABEL,
            width=CELL_WIDTH,
            height=CELL_HEIGHT,
        )
    return sheet.figure


def _draw_frame(run: Run, iteration: int) -> Figure:
    width, height = _ZOOM * CELL_WIDTH, _ZOOM * CELL_HEIGHT
    sheet = _sheet(run, f"Iteration {iteration}", height + _ROW_GAP)
    grid = read_grid(run, iteration)
    sheet.add_grid(grid, left=(WIDTH - width) / 2, top=0, width=width, height=height)
    return sheet.figure


def _describe_losses(run: Run) -> str:
    """Where each loss ends, in words."""
    ends = [
        f"{loss} loss {losses_of(run, loss)[1][-1]:.3g} at iteration {run.curves[-1].iteration}"
        for loss in LOSSES
        if run.curves
    ]
    if describe_end(run):
        ends.append(describe_end(run))
    return f"Losses of {run.name} over iterations: {'; '.join(ends)}."
