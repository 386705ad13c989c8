from __future__ import annotations

import pytest

from gaslayers.models import CASES
from gaslayers.study.config import RunConfig
from gaslayers.study.report import original
from gaslayers.study.report.convention import convention_of
from gaslayers.study.report.original import read_original_curves


@pytest.mark.parametrize("loss", ["generator", "discriminator"])
def test_original_has_ten_readings_of_each_case(loss):
    curves = read_original_curves(loss)
    assert tuple(curves) == CASES
    for curve in curves.values():
        assert curve.iterations == list(range(0, 2000, 200))
        assert len(curve.losses) == 10


def test_original_ends_as_its_plots_do():
    ends = {
        case: (read_original_curves("generator")[case].losses[-1], curve.losses[-1])
        for case, curve in read_original_curves("discriminator").items()
    }
    assert ends == {
        "original": (12.3, 3.9),
        "depthwise_inception": (0.0, 16.0),
        "inception_32": (15.8, 4.4),
        "depthwise_inception_dense": (4.0, 8.0),
        "inception_16": (9.9, 5.3),
        "inception_8": (2.9, 8.2),
    }


def test_original_can_be_cut_at_an_iteration():
    curve = read_original_curves("generator")["original"].until(400)
    assert curve.iterations == [0, 200, 400]
    assert curve.losses == [4.0, 5.3, 4.0]


def test_original_says_where_it_is_from():
    first, header, *_ = original.PATH.read_text(encoding="utf-8").splitlines()
    assert first.startswith("# Source: ")
    assert "+-0.1" in first
    assert header.startswith("loss,case,0,200")


@pytest.mark.parametrize(
    ("loss", "choices", "unit", "is_original", "undecided", "saturated"),
    [
        ("generator", {}, "sum over 32 images", True, 4.0, (0.0, 16.0)),
        ("discriminator", {}, "sum over 32 images", True, 8.0, (16.0,)),
        ("generator", {"batch_size": 64}, "sum over 64 images", False, 8.0, (0.0, 32.0)),
        ("generator", {"loss_reduction": "mean"}, "mean over 32 images", False, 0.125, (0.0, 0.5)),
        ("discriminator", {"loss_reduction": "mean"}, "mean over 32 images", False, 0.25, (0.5,)),
        ("generator", {"variant": "as_described"}, "sum over 32 images", True, 4.0, ()),
    ],
)
def test_convention_knows_unit_scale_and_levels(
    loss, choices, unit, is_original, undecided, saturated
):
    convention = convention_of(RunConfig(case="original", data_sha256="", **choices), loss)
    assert convention.unit == unit
    assert convention.is_original is is_original
    assert convention.undecided == undecided
    assert convention.saturated == saturated
