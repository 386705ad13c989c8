"""A picture's page: title and caption at the top, axes placed in inches below them."""

from __future__ import annotations

import io
import textwrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

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

_MARGIN = 0.06
_POINT = 1 / 72
_LINE_SPACING = 1.35
_CHARACTERS_PER_INCH = 1 / (0.6 * _POINT)  # of one-point type; a wide estimate for this face


class Sheet:
    """A figure with a title and a caption, and a body that axes are placed on.

    Args:
        title: Set in bold.
        lines: The caption; long lines are wrapped.
        body: Height of what comes below, in inches.
    """

    def __init__(self, title: str, lines: list[str], *, body: float) -> None:
        texts = [(line, TITLE_SIZE, "bold", INK) for line in _wrap(title, TITLE_SIZE)]
        texts += [
            (wrapped, TEXT_SIZE, "normal", FAINT)
            for line in lines
            for wrapped in _wrap(line, TEXT_SIZE)
        ]
        header = 2 * _MARGIN + sum(size * _LINE_SPACING * _POINT for _, size, _, _ in texts)
        # Whole hundredths of an inch: the picture is a whole number of pixels at every dpi used.
        self.width = WIDTH
        self.height = round(header + body, 2)
        self._header = self.height - body
        self.figure = Figure(figsize=(WIDTH, self.height), facecolor="white")
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


def _wrap(text: str, size: float) -> list[str]:
    return textwrap.wrap(text, int((WIDTH - 2 * _MARGIN) * _CHARACTERS_PER_INCH / size))


def render(figure: Figure, *, dpi: int = DPI) -> bytes:
    """Draw a figure as PNG; the same figure gives the same bytes."""
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=dpi, metadata={"Software": None})
    return png.getvalue()
