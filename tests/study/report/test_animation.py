from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from gaslayers.study.report import animation
from gaslayers.study.report.animation import animate_samples, frame_iterations
from gaslayers.study.report.runs import read_study
from gaslayers.study.report.samples import PIXELS_PER_INCH, draw_samples
from gaslayers.study.report.sheet import render

pytestmark = pytest.mark.slow

SHORT = {"iterations": 6, "log_every": 1, "sample_every": 2}
# Half a step between two of the animation's greys, and the rounding.
GREY_TOLERANCE = 255 / (animation.GREYS - 1) / 2 + 1


def read_group(tmp_path):
    (group,) = read_study(tmp_path).groups
    return group


def test_animation_shows_the_page_of_every_saved_iteration(write_run, tmp_path):
    write_run("original", **SHORT)
    write_run("inception_8", non_finite_after=3, **SHORT)
    group = read_group(tmp_path)
    assert frame_iterations(group) == [0, 2, 4, 5]
    gif = Image.open(io.BytesIO(animate_samples(group)))
    assert gif.format == "GIF"
    assert gif.n_frames == 4
    assert gif.info["loop"] == 0
    durations = []
    for index, iteration in enumerate(frame_iterations(group)):
        gif.seek(index)
        durations.append(gif.info["duration"])
        png = render(draw_samples(group, iteration), dpi=PIXELS_PER_INCH)
        page = np.asarray(Image.open(io.BytesIO(png)).convert("L"), dtype=float)
        assert gif.size == page.shape[::-1]
        assert np.abs(np.asarray(gif.convert("L")) - page).max() <= GREY_TOLERANCE
    assert durations == [animation.FRAME_MILLISECONDS] * 3 + [animation.LAST_FRAME_MILLISECONDS]
    assert animation.LAST_FRAME_MILLISECONDS > 2 * animation.FRAME_MILLISECONDS


def test_animation_of_many_iterations_is_thinned_evenly(write_run, tmp_path, monkeypatch):
    write_run("original", iterations=9, log_every=1, sample_every=1)
    monkeypatch.setattr(animation, "MAXIMUM_FRAMES", 5)
    assert frame_iterations(read_group(tmp_path)) == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("after", [0])
def test_animation_is_left_out_without_samples(write_run, tmp_path, after):
    write_run("original", non_finite_after=after, **SHORT)
    assert animate_samples(read_group(tmp_path)) is None
