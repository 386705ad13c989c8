from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from gaslayers.models import CASES
from gaslayers.study.config import PRESET_NOTES
from gaslayers.study.records import RunFolder
from gaslayers.study.report.runs import read_study
from gaslayers.study.report.samples import PIXELS_PER_INCH, draw_samples, read_grid
from gaslayers.study.report.sheet import DPI, render

GREY_TOLERANCE = 1  # a colour map's rounding
SHORT = {"iterations": 5, "log_every": 1, "sample_every": 2}


def read_group(tmp_path):
    (group,) = read_study(tmp_path).groups
    return group


def test_page_shows_every_case_in_two_rows_of_three(write_run, tmp_path, texts_of):
    for case in CASES:
        write_run(case, **SHORT)
    figure = draw_samples(read_group(tmp_path), 4)
    assert len(figure.axes) == len(CASES)
    for case, axes in zip(CASES, figure.axes, strict=True):
        (image,) = axes.images
        saved = Image.open(tmp_path / f"{case}-as_coded-seed0" / "samples" / "000004.png")
        assert np.array_equal(image.get_array(), np.asarray(saved))
        assert (image.norm.vmin, image.norm.vmax) == (0, 255)
    lefts = [round(axes.get_position().x0, 6) for axes in figure.axes]
    tops = [round(axes.get_position().y1, 6) for axes in figure.axes]
    assert lefts[:3] == lefts[3:] == sorted(set(lefts))
    assert tops == [max(tops)] * 3 + [min(tops)] * 3
    texts = texts_of(figure)
    assert [text for text in texts if text in CASES] == list(CASES)
    assert "Samples after iteration 4, as coded in 2018" in texts
    assert any(PRESET_NOTES["quick"] in text for text in texts)
    assert any("data: synthetic shapes" in text for text in texts)


@pytest.mark.parametrize("dpi", [PIXELS_PER_INCH, DPI])
def test_page_shows_each_generated_pixel_as_a_square(write_run, tmp_path, dpi):
    write_run("inception_16", **SHORT)
    figure = draw_samples(read_group(tmp_path), 4)
    saved = np.asarray(Image.open(tmp_path / "inception_16-as_coded-seed0/samples/000004.png"))
    factor = dpi // PIXELS_PER_INCH
    expected = saved.repeat(factor, 0).repeat(factor, 1)
    (tmp_path / "page.png").write_bytes(render(figure, dpi=dpi))
    page = np.asarray(Image.open(tmp_path / "page.png").convert("L"), dtype=int)
    box = figure.axes[CASES.index("inception_16")].get_position()
    left, top = round(box.x0 * page.shape[1]), round((1 - box.y1) * page.shape[0])
    height, width = expected.shape
    difference = page[top : top + height, left : left + width] - expected
    assert np.abs(difference).max() <= GREY_TOLERANCE


def test_page_says_why_a_cell_is_empty(write_run, tmp_path):
    write_run("original", **SHORT)
    write_run("inception_32", non_finite_after=0, **SHORT)
    (tmp_path / "inception_8-as_coded-seed0").mkdir()
    figure = draw_samples(read_group(tmp_path), 4)
    written = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert written == [[], ["not run"], ["no samples"], ["not run"], ["not run"], ["unfinished"]]
    assert [len(axes.images) for axes in figure.axes] == [1, 0, 0, 0, 0, 0]


def test_page_holds_the_last_samples_of_a_run_that_ended_early(write_run, tmp_path, texts_of):
    write_run("original", non_finite_after=3, **SHORT)
    write_run("inception_8", **SHORT)
    group = read_group(tmp_path)
    run = group.runs[0]
    assert np.array_equal(read_grid(run, 4), read_grid(run, 2))
    assert not np.array_equal(read_grid(run, 2), read_grid(run, 0))
    assert "not finite after 3 iterations" in texts_of(draw_samples(group, 4))
    assert "not finite after 3 iterations" not in texts_of(draw_samples(group, 2))


def test_page_shows_the_lowest_seed_and_says_so(write_run, tmp_path, texts_of):
    for case, seed in (("original", 2), ("original", 1), ("inception_8", 1)):
        write_run(case, seed=seed, **SHORT)
    texts = texts_of(draw_samples(read_group(tmp_path), 4))
    assert any("seed 1; data" in text for text in texts)
    write_run("inception_16", seed=3, **SHORT)
    texts = texts_of(draw_samples(read_group(tmp_path), 4))
    assert any("seeds 1, 3; data" in text for text in texts)
    assert {"original, seed 1", "inception_8, seed 1", "inception_16, seed 3"} <= set(texts)


@pytest.mark.parametrize("fault", ["empty", "truncated", "other size"])
def test_page_names_a_damaged_picture_and_the_remedy(write_run, tmp_path, fault):
    folder = RunFolder(tmp_path / write_run("original", **SHORT).config.name)
    path = folder.sample_paths()[4]
    content = path.read_bytes()
    if fault == "other size":
        Image.new("L", (28, 28)).save(path)
    else:
        path.write_bytes(content[: len(content) // 2] if fault == "truncated" else b"")
    text = rf"`{re.escape(str(path))}` must be a grid of 224 x 112 pixels, got .* Delete the run"
    with pytest.raises(ValueError, match=text):
        draw_samples(read_group(tmp_path), 4)
