from __future__ import annotations

import io
import itertools

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image

from gaslayers.models import CASES
from gaslayers.study.report.curves import draw_losses
from gaslayers.study.report.runs import read_study
from gaslayers.study.report.samples import draw_samples
from gaslayers.study.report.sheet import DPI, WIDTH, Sheet, render

SMALLEST_FONT = 9.0
SHORT = {"iterations": 400, "log_every": 100, "sample_every": 200}


@pytest.fixture
def crowded(write_run, tmp_path):
    """As much text as a page has to bear: long names, changes, seeds, ends, an empty cell."""
    choices = {"variant": "as_described", "learning_rate": 0.5, "optimizer": "adam", **SHORT}
    for case, seed in itertools.product(CASES[:-1], range(5)):
        write_run(case, seed=seed, non_finite_after=300 if seed == 0 else None, **choices)
    (group,) = read_study(tmp_path).groups
    return {
        "losses": draw_losses(group, "discriminator"),
        "samples": draw_samples(group, 399),
    }


@pytest.mark.parametrize("picture", ["losses", "samples"])
def test_texts_stay_on_the_page_and_apart(crowded, monkeypatch, picture):
    drawn = []
    draw = Text.draw
    monkeypatch.setattr(Text, "draw", lambda self, *args: (drawn.append(self), draw(self, *args)))
    figure = crowded[picture]
    FigureCanvasAgg(figure).draw()
    texts = [text for text in dict.fromkeys(drawn) if text.get_text() and text.get_visible()]
    assert len(texts) > len(CASES)
    assert min(text.get_fontsize() for text in texts) >= SMALLEST_FONT
    boxes = {text: text.get_window_extent() for text in texts}
    for text, box in boxes.items():
        assert 0 <= box.x0 < box.x1 <= figure.bbox.width, text
        assert 0 <= box.y0 < box.y1 <= figure.bbox.height, text
    for one, other in itertools.combinations(texts, 2):
        assert not boxes[one].overlaps(boxes[other].shrunk(0.98, 0.98)), (one, other)


def test_sheet_wraps_long_lines_and_grows_with_them():
    short = Sheet("Title", ["a line"], body=1.0)
    long = Sheet("Title", ["a line " * 60], body=1.0)
    assert len(short.figure.texts) == 2
    assert len(long.figure.texts) > 3
    assert long.height > short.height + 0.2
    written = " ".join(text.get_text() for text in long.figure.texts[1:])
    assert written == " ".join(["a line"] * 60)


def test_render_gives_whole_pixels_and_equal_bytes():
    sheet = Sheet("Title", ["a line"], body=1.0)
    png = render(sheet.figure)
    assert Image.open(io.BytesIO(png)).size == (round(WIDTH * DPI), round(sheet.height * DPI))
    assert render(Sheet("Title", ["a line"], body=1.0).figure) == png
