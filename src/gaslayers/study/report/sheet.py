"""A picture's page: title and caption at the top, axes placed in inches below them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from numpy.typing import NDArray

from gaslayers.models import CASES

WIDTH = 6.96
"""Inches. The pictures are made to be read at the width of a phone, so they are no wider."""

DPI = 200
"""Of a still picture."""

TITLE_SIZE = 14.0
TEXT_SIZE = 10.5
SMALL_SIZE = 9.5
INK = "#222222"
FAINT = "#6b6b6b"

# Okabe and Ito's palette, which colour-blind readers can tell apart.
COLOURS = dict(
    zip(
        CASES,
        ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9"),
        strict=True,
    )
)

# A darker shade of each, for what stands beside a case's own line.
DARK_COLOURS = {case: tuple(0.6 * part for part in to_rgb(COLOURS[case])) for case in CASES}

_MARGIN = 0.06
_POINT = 1 / 72
_LINE_SPACING = 1.35


class Sheet:
    """A figure with a title and a caption, and a body that axes are placed on.

    Args:
        title: Set in bold.
        lines: The caption, the first line of which stands out; long lines are wrapped.
        body: Height of what comes below, in inches.
    """

    def __init__(self, title: str, lines: list[str], *, body: float) -> None:
        texts = [(line, TITLE_SIZE, "bold", INK) for line in _wrap(title, TITLE_SIZE, "bold")]
        for number, line in enumerate(lines):
            colour = FAINT if number else INK
            texts += [(part, TEXT_SIZE, "normal", colour) for part in _wrap(line, TEXT_SIZE)]
        header = 2 * _MARGIN + sum(size * _LINE_SPACING * _POINT for _, size, _, _ in texts)
        self.width = WIDTH
        # Whole hundredths of an inch: a whole number of pixels at 100 dpi and its multiples.
        self.height = round(header + body, 2)
        self._header = self.height - body
        self.figure = Figure(figsize=(self.width, self.height), facecolor="white")
        top = _MARGIN
        for text, size, weight, colour in texts:
            self._put(text, _MARGIN, top, size=size, weight=weight, color=colour)
            top += size * _LINE_SPACING * _POINT

    def _put(self, text: str, left: float, top: float, **style: Any) -> None:
        self.figure.text(left / WIDTH, 1 - top / self.height, text, va="top", **style)

    def write(self, text: str, *, left: float, top: float, **style: Any) -> None:
        """Write text at a place of the body, in inches from its upper left corner."""
        self._put(text, left, self._header + top, **style)

    def add_axes(self, *, left: float, top: float, width: float, height: float) -> Axes:
        """Place axes on the body, in inches from its upper left corner."""
        bottom = self.height - self._header - top - height
        return self.figure.add_axes(
            (left / WIDTH, bottom / self.height, width / WIDTH, height / self.height)
        )

    def add_grid(
        self, grid: NDArray[np.uint8] | None, *, why_empty: str = "no samples", **place: float
    ) -> None:
        """Place a grey picture, or the reason why there is none; places as for `add_axes`."""
        axes = self.add_axes(**place)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        if grid is None:
            axes.set_facecolor("#eeeeee")
            axes.text(0.5, 0.5, why_empty, ha="center", va="center", size=TEXT_SIZE, color=FAINT)
        else:
            axes.imshow(grid, cmap="gray", vmin=0, vmax=255, interpolation="nearest")


def _wrap(text: str, size: float, weight: str = "normal") -> list[str]:
    """Break a text into lines that fit between the margins."""
    font = FontProperties(size=size, weight=weight)
    first, *words = text.split()
    lines = [first]
    for word in words:
        longer = f"{lines[-1]} {word}"
        points, _, _ = text_to_path.get_text_width_height_descent(longer, font, ismath=False)
        if points * _POINT <= WIDTH - 2 * _MARGIN:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def render(figure: Figure, *, dpi: int = DPI) -> bytes:
    """Draw a figure as PNG; the same figure gives the same bytes."""
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=dpi, metadata={"Software": None})
    return png.getvalue()
