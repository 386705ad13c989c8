"""The audit's page says what the audit found, and shows it."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from PIL import Image

from gaslayers.study.audit import audit, read_settings
from gaslayers.study.report.audit import write_audit
from gaslayers.study.report.audit.pareto import find_frontier
from gaslayers.study.report.audit.words import factors_of, label_settings
from tests.study.audit.conftest import Sweep

TESTS = """
[[claims]]
id = 1
statement = "Small ones are | worse."

[[claims.tests]]
setting = "today"
kind = "worse"
first = {family = "small", case = "inception_8"}
second = {family = "modern", case = "original"}

[[questions]]
id = "one"
question = "Do they fail?"
kind = "fails"
first = {family = "small", case = "inception_8"}
"""


@pytest.fixture
def planted(tmp_path):
    """A sweep with a family of cases and one of factors."""
    sweep = Sweep(tmp_path / "sweep")
    sweep.ask(TESTS, seeds=6)
    draw = random.Random(0)
    for family, case, centre in (("modern", "original", 5.0), ("small", "inception_8", 9.0)):
        scores = [centre * draw.lognormvariate(0.0, 0.05) for _ in range(6)]
        sweep.plant_all(family, case, scores)
    sweep.plant("small", "inception_8", 6, finite=False)
    for groups in (1, 2):
        for norm in ("live", "none"):
            for seed in range(2):
                folder = f"grid/groups_{groups}-norm_{norm}"
                switches = {"groups": groups, "norm": norm}
                sweep.plant(folder, "original", seed, failed=groups == 2, switches=switches)
    return sweep


def test_page_opens_with_a_sentence_for_each_claim(planted, tmp_path):
    written = write_audit(planted.path, tmp_path / "out")
    text = (tmp_path / "out" / "audit.md").read_text()
    assert "1. “Small ones are | worse.” Today: supported.\n" in text
    page = (tmp_path / "out" / "audit.html").read_text()
    assert "Today: supported." in page
    (verdict,) = audit(planted.path).claims
    evidence = verdict.decisions["today"][0].evidence
    assert evidence in text
    assert evidence in page
    assert {path.name for path in written} == {
        "pareto.png",
        *(f"{name}_{kind}.png" for name in ("grid", "modern", "small") for kind in KINDS),
        "grid_factors.png",
        "audit.md",
        "audit.html",
    }
    assert all(path.exists() for path in written)
    assert not list(planted.path.glob("*.png"))


KINDS = ("scores", "losses", "samples")


def test_page_is_the_same_from_the_same_records(planted, tmp_path):
    one, other = (write_audit(planted.path, tmp_path / name) for name in ("one", "other"))
    assert [path.name for path in one] == [path.name for path in other]
    for path, again in zip(one, other, strict=True):
        assert path.read_bytes() == again.read_bytes(), path.name


def test_rows_of_tables_tell_what_failed(planted, tmp_path):
    write_audit(planted.path, tmp_path)
    text = (tmp_path / "audit.md").read_text()
    rows = {line.split(" | ")[0].strip("| "): line for line in text.splitlines() if " of " in line}
    assert "| 6 of 7 | diverged 1 |" in rows["inception_8, small"]
    assert "| 0 of 2 | mode collapse 2 |" in rows["original, grid: groups_2-norm_none"]
    assert "| 2 of 2 | - |" in rows["original, grid: groups_1-norm_none"]


def test_every_score_is_in_the_picture(planted, tmp_path):
    from gaslayers.study.report.audit.scores import draw_scores

    settings = [one for one in read_settings(planted.path) if one.family == "small"]
    figure = draw_scores(settings, "frechet_distance", "title")
    (axes,) = figure.axes
    drawn = [line for line in axes.lines if line.get_marker() in ("o", "x")]
    finite = [s for s in settings[0].scores("frechet_distance").values() if math.isfinite(s)]
    assert [float(line.get_xdata()[0]) for line in drawn] == finite


def test_heat_map_is_darker_where_more_are_healthy(planted, tmp_path):
    from gaslayers.study.report.audit.factors import draw_factors

    settings = [one for one in read_settings(planted.path) if one.family == "grid"]
    assert factors_of(settings) == {"norm": ["live", "none"], "groups": [1, 2]}
    (axes,) = draw_factors(settings, "frechet_distance", "title").axes
    (image,) = axes.images
    np.testing.assert_array_equal(image.get_array(), [[1.0, 0.0], [1.0, 0.0]])
    texts = [text.get_text().split("\n")[0] for text in axes.texts]
    assert texts == ["2 of 2", "0 of 2", "2 of 2", "0 of 2"]


def test_labels_are_short_where_factors_are_many(planted):
    settings = [one for one in read_settings(planted.path) if one.family == "grid"]
    labels, legend = label_settings(settings)
    assert labels[0] == "norm live, groups 1"
    assert legend == ""
    for seed in range(2):
        switches = {"groups": 2, "norm": "none", "activation": "relu"}
        planted.plant("grid/more", "original", seed, switches=switches)
    settings = [one for one in read_settings(planted.path) if one.family == "grid"]
    labels, legend = label_settings(settings)
    assert legend == "norm / activation / groups"
    assert "none / relu / 2" in labels


def test_frontier_is_what_no_other_point_beats():
    points = [(1.0, 9.0), (2.0, 5.0), (2.0, 4.0), (3.0, 4.0), (4.0, 6.0), (5.0, 1.0)]
    beaten = {
        point
        for point in points
        for other in points
        if other != point and other[0] <= point[0] and other[1] <= point[1]
    }
    assert find_frontier(points) == sorted(set(points) - beaten)


def test_samples_are_those_of_the_lowest_seed(planted, tmp_path):
    from gaslayers.study.report.audit.samples import draw_final_samples

    settings = [one for one in read_settings(planted.path) if one.family == "modern"]
    figure = draw_final_samples(settings, "title")
    (image,) = figure.axes[0].images
    with Image.open(settings[0].runs[0].run.samples[49]) as picture:
        np.testing.assert_array_equal(image.get_array(), np.asarray(picture))
