"""Both losses of the six cases over iterations, a panel a case, the original's behind them."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gaslayers.models import CASES
from gaslayers.study.report.captions import VARIANT_WORDS, caption_lines, describe_end
from gaslayers.study.report.convention import convention_of
from gaslayers.study.report.key import (
    LINE_HEIGHT,
    ORIGINAL_LINE_STYLE,
    ORIGINAL_MARKER_STYLE,
    SATURATED_STYLE,
    SYMBOLS,
    UNDECIDED_STYLE,
    draw_key,
    make_key,
    run_style,
)
from gaslayers.study.report.limits import finite_losses, highest_loss, last_iteration, losses_of
from gaslayers.study.report.original import Loss, OriginalCurve, read_original_curves
from gaslayers.study.report.runs import Group
from gaslayers.study.report.sheet import (
    COLOURS,
    DARK_COLOURS,
    FAINT,
    INK,
    SMALL_SIZE,
    TEXT_SIZE,
    Sheet,
)

COLUMNS = 2
_ROWS = math.ceil(len(CASES) / COLUMNS)

# Inches. The three margins hold tick labels; a panel's title stands above it.
_LEFT, _RIGHT, _GAP = 0.6, 0.2, 0.22
_TITLE, _PANEL, _AXIS = 0.32, 1.5, 0.5


def draw_losses(group: Group, loss: Loss) -> Figure:
    """Draw one loss of a group's runs, six panels in the study's order on common axes."""
    convention = convention_of(group.config, loss)
    originals = read_original_curves(loss) if convention.is_original else {}
    key = make_key(group, loss, convention)
    panels = _ROWS * (_TITLE + _PANEL) + _AXIS
    sheet = Sheet(
        f"{loss.capitalize()} loss, {VARIANT_WORDS[group.config.variant]}",
        caption_lines(group, group.runs),
        body=panels + len(key) * LINE_HEIGHT,
    )
    right = last_iteration(group, originals)
    originals = {case: curve.until(right) for case, curve in originals.items()}
    top = highest_loss(group, loss, convention, originals)
    width = (sheet.width - _LEFT - _RIGHT - (COLUMNS - 1) * _GAP) / COLUMNS
    for index, case in enumerate(CASES):
        row, column = divmod(index, COLUMNS)
        axes = sheet.add_axes(
            left=_LEFT + column * (width + _GAP),
            top=_TITLE + row * (_TITLE + _PANEL),
            width=width,
            height=_PANEL,
        )
        set_limits(axes, right=right, top=top)
        style_axes(axes, case, is_left=column == 0, is_bottom=row == _ROWS - 1)
        if column == 0 and row == _ROWS // 2:
            label = f"{loss} loss {SYMBOLS[loss]}, {convention.unit}"
            axes.set_ylabel(label, size=SMALL_SIZE, color=INK)
            axes.yaxis.set_label_coords(-(_LEFT - 0.24) / width, 0.5)
        draw_panel(axes, group, case, loss, originals.get(case))
    draw_key(sheet, key, left=_LEFT, top=panels)
    return sheet.figure


def draw_panel(
    axes: Axes, group: Group, case: str, loss: Loss, curve: OriginalCurve | None
) -> None:
    """Draw one case's runs on axes whose limits are set, with the original's curve behind them."""
    convention = convention_of(group.config, loss)
    axes.axhline(convention.undecided, zorder=1, **UNDECIDED_STYLE)
    for level in convention.saturated:
        axes.axhline(level, zorder=1, **SATURATED_STYLE)
    if curve is not None:
        _draw_original(axes, curve, case)
    _draw_runs(axes, group, case, loss)
    _write_notes(axes, group, case, loss)


def set_limits(axes: Axes, *, right: float, top: float) -> None:
    """Let axes reach a little beyond the last iteration and the highest loss."""
    axes.set(xlim=(-0.01 * right, 1.02 * right), ylim=(-0.04 * top, 1.08 * top))


def style_axes(axes: Axes, title: str, *, is_left: bool = True, is_bottom: bool = True) -> None:
    """Set ticks and title; the labels of numbers only where no panel beside or below has them."""
    axes.set_title(title, loc="left", size=TEXT_SIZE, weight="bold", color=INK, pad=4)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 4, 5, 10]))
    axes.yaxis.set_major_formatter("{x:.3g}")
    axes.tick_params(labelsize=SMALL_SIZE, labelleft=is_left, labelbottom=is_bottom, color=FAINT)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    if is_bottom:
        axes.set_xlabel("iteration", size=SMALL_SIZE, color=INK)


def _draw_original(axes: Axes, curve: OriginalCurve, case: str) -> None:
    # The line, which only joins readings, stands behind the runs; the readings stay visible.
    axes.plot(*curve, color=DARK_COLOURS[case], zorder=2, **ORIGINAL_LINE_STYLE)
    axes.plot(*curve, color=DARK_COLOURS[case], linestyle="", zorder=4, **ORIGINAL_MARKER_STYLE)


def _draw_runs(axes: Axes, group: Group, case: str, loss: Loss) -> None:
    runs = group.runs_of(case)
    style = run_style(among_seeds=len(runs) > 1)
    for run in runs:
        iterations, losses = losses_of(run, loss)
        axes.plot(iterations, losses, color=COLOURS[case], zorder=3, **style)
        points = [p for p in zip(iterations, losses, strict=True) if math.isfinite(p[1])]
        if run.record.outcome == "non_finite" and points:
            x, y = points[-1]
            axes.plot([x], [y], marker="x", color=INK, zorder=4)


def _write_notes(axes: Axes, group: Group, case: str, loss: Loss) -> None:
    runs = group.runs_of(case)
    if not runs:
        why = group.why_empty(case)
        axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", size=TEXT_SIZE, color=FAINT)
        return
    ends = [describe_end(run) for run in runs if describe_end(run)]
    notes = [f"{len(ends)} of {len(runs)} seeds not finite"] if ends and len(runs) > 1 else ends
    peak = max((value for run in runs for value in finite_losses(run, loss)), default=0.0)
    if peak > axes.get_ylim()[1]:
        notes.append(f"cut off: reaches {peak:.3g}")
    if notes:
        # On the side where the run is not.
        is_left = max(run.record.iterations_done for run in runs) > sum(axes.get_xlim()) / 2
        axes.text(
            0.03 if is_left else 0.97,
            0.95,
            "\n".join(notes),
            transform=axes.transAxes,
            ha="left" if is_left else "right",
            va="top",
            size=SMALL_SIZE,
            color=INK,
            bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1},
            zorder=5,
        )
