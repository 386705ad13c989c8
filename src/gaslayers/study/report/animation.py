"""The page of samples over the iterations, as an animated GIF."""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from gaslayers.study.report.runs import Group
from gaslayers.study.report.samples import PIXELS_PER_INCH, draw_samples, shown_runs
from gaslayers.study.report.sheet import render

FRAME_MILLISECONDS = 600
LAST_FRAME_MILLISECONDS = 3000
MAXIMUM_FRAMES = 60
GREYS = 32
"""Enough for digits; 256 would make the file more than twice as large."""


def frame_iterations(group: Group) -> list[int]:
    """The iterations that are shown: all that any case has samples of, thinned where too many."""
    there = sorted({iteration for run in shown_runs(group).values() for iteration in run.samples})
    if len(there) <= MAXIMUM_FRAMES:
        return there
    # Evenly spaced, with the first and the last.
    return [there[i] for i in np.linspace(0, len(there) - 1, MAXIMUM_FRAMES).round().astype(int)]


def animate_samples(group: Group) -> bytes | None:
    """Draw the samples at every saved iteration as GIF; None where nothing was saved."""
    return write_gif(draw_samples(group, iteration) for iteration in frame_iterations(group))


def write_gif(pages: Iterable[Figure]) -> bytes | None:
    """Show grey pages of one size one after the other, for ever; None where there is none."""
    frames = [_frame(page) for page in pages]
    if not frames:
        return None
    gif = io.BytesIO()
    durations = [FRAME_MILLISECONDS] * (len(frames) - 1) + [LAST_FRAME_MILLISECONDS]
    frames[0].save(
        gif, format="GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0
    )
    return gif.getvalue()


def _frame(figure: Figure) -> Image.Image:
    page = Image.open(io.BytesIO(render(figure, dpi=PIXELS_PER_INCH)))
    # Levels from black to white, both included, of a palette that all frames share.
    levels = np.asarray(page.convert("L"), dtype=np.float64) * ((GREYS - 1) / 255)
    frame = Image.fromarray(levels.round().astype(np.uint8))
    frame.putpalette([round(i * 255 / (GREYS - 1)) for i in range(GREYS) for _ in "RGB"])
    return frame
