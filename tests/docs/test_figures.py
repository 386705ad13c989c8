"""Figures that must not change unseen: diagrams as text, plots as small pictures."""

import pytest
from PIL import Image

from gaslayers.lean.native.availability import are_compiled
from tests.docs.figures import BASELINES, DRAWN_BY, read_diagrams, read_pictures, release

pytestmark = pytest.mark.slow

TOLERANCE = 2.0
"""Root mean square over the pixels, of 255: room for another processor's rounding of what is drawn.

One bar of three an eighth longer is 6, half of one loss curve of two moved by 1 is 5.
"""

WITH_KERNELS = {
    "costs_before_running_002",
    "fit_a_budget_001",
    "fit_a_budget_002",
    "lean_against_plain_002",
}
"""Stored as they are where kernels are compiled, which keep less and take less while they run."""

REMEDY = "If the change is meant, look at the figure and store it: python -m tests.docs.figures"


@pytest.fixture(scope="module")
def pictures(site):
    return read_pictures(site)


def test_no_figure_came_or_went(site, pictures):
    stored = {path.name for path in BASELINES.iterdir()} - {DRAWN_BY.name}
    assert stored == {f"{name}.png" for name in pictures} | {
        f"{name}.svg" for name in read_diagrams(site)
    }


@pytest.mark.parametrize("path", sorted(BASELINES.glob("*.png")), ids=lambda path: path.stem)
def test_plot_is_the_stored_one(pictures, tmp_path, path):
    compare = pytest.importorskip("matplotlib.testing.compare")
    drawn_by = DRAWN_BY.read_text(encoding="utf-8").strip()
    if release() != drawn_by:
        pytest.skip(f"stored from matplotlib {drawn_by}, whose letters and margins are its own")
    if path.stem in WITH_KERNELS and not are_compiled():
        pytest.skip("stored from a package with compiled kernels, which this one has not")
    shown = pictures[path.stem]
    with Image.open(path) as stored:
        assert shown.size == stored.size, REMEDY
    shown.save(tmp_path / path.name)
    difference = compare.compare_images(path, tmp_path / path.name, tol=TOLERANCE)
    assert difference is None, f"{difference}\n{REMEDY}"


@pytest.mark.parametrize("path", sorted(BASELINES.glob("*.svg")), ids=lambda path: path.stem)
def test_diagram_is_the_stored_one(site, path):
    stored = path.read_text(encoding="utf-8").splitlines()
    assert read_diagrams(site)[path.stem].splitlines() == stored, REMEDY
