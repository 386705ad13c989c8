"""The pictures of one run show what its folder holds, and nothing of other runs."""

from __future__ import annotations

import io
import re

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.lines import Line2D
from PIL import Image

from gaslayers.study import draw_run_pictures, draw_study_pictures, read_run
from gaslayers.study.report import run_pictures
from gaslayers.study.report.original import read_original_curves
from gaslayers.study.report.samples import read_grid

SHORT = {"iterations": 250, "log_every": 50, "sample_every": 200}


@pytest.fixture
def run(write_run, tmp_path):
    write_run("inception_8", **SHORT)
    return read_run(tmp_path / "inception_8-as_coded-seed0")


def lines_of(axes) -> list[tuple[list[float], list[float]]]:
    return [
        ([float(x) for x in line.get_xdata()], [float(y) for y in line.get_ydata()])
        for line in axes.findobj(Line2D)
    ]


def test_pictures_and_their_words(run):
    losses, samples, animation = draw_run_pictures(run)
    assert [picture.name for picture in (losses, samples, animation)] == [
        "losses.png",
        "samples.png",
        "training.gif",
    ]
    last = run.curves[-1]
    assert f"generator loss {last.generator_loss:.3g} at iteration 249" in losses.alternative
    assert f"discriminator loss {last.discriminator_loss:.3g} at iter" in losses.alternative
    assert "at iterations 0, 200, 249." in samples.alternative
    assert Image.open(io.BytesIO(animation.content)).n_frames == 3


def test_losses_are_the_recorded_ones_over_the_originals(run):
    figure = run_pictures._draw_losses(run)
    for loss in ("generator", "discriminator"):
        (axes,) = (a for a in figure.axes if a.get_title("left").startswith(f"{loss} loss"))
        recorded = [getattr(point, f"{loss}_loss") for point in run.curves]
        assert ([float(p.iteration) for p in run.curves], recorded) in lines_of(axes)
        original = read_original_curves(loss)["inception_8"].until(400)
        assert (list(map(float, original.iterations)), original.losses) in lines_of(axes)


def test_samples_are_the_saved_grids_in_order(run, texts_of):
    figure = run_pictures._draw_samples(run)
    shown = [axes.images[0].get_array() for axes in figure.axes]
    assert [text for text in texts_of(figure) if re.fullmatch(r"iteration \d+", text)] == [
        "iteration 0",
        "iteration 200",
        "iteration 249",
    ]
    for array, iteration in zip(shown, run.samples, strict=True):
        np.testing.assert_array_equal(array, read_grid(run, iteration))


def test_run_that_ended_before_its_first_reading_has_a_picture_that_says_so(write_run, tmp_path):
    write_run("original", non_finite_after=0, **SHORT)
    (losses,) = draw_run_pictures(read_run(tmp_path / "original-as_coded-seed0"))
    assert losses.alternative.endswith("over iterations: not finite after 0 iterations.")


def test_pictures_do_not_depend_on_the_callers_style(run):
    expected = draw_run_pictures(run)
    styles = {"axes.grid": True, "font.size": 30, "figure.constrained_layout.use": True}
    with mpl.rc_context(styles):
        found = draw_run_pictures(run)
    assert found == expected


def test_picture_shows_itself_in_a_notebook(run):
    picture = draw_run_pictures(run)[0]
    assert picture._repr_html_() == f'<img src="{picture.data_uri}" alt="{picture.alternative}">'


@pytest.mark.slow
def test_study_pictures_are_those_of_its_report(reported):
    for picture in draw_study_pictures(reported.out):
        assert (reported.out / picture.name).read_bytes() == picture.content
