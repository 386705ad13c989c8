from __future__ import annotations

import math

import pytest
from matplotlib.lines import Line2D

from gaslayers.models import CASES
from gaslayers.study.config import PRESET_NOTES
from gaslayers.study.records import RunFolder
from gaslayers.study.report import original
from gaslayers.study.report.curves import draw_losses
from gaslayers.study.report.original import read_original_curves
from gaslayers.study.report.runs import read_study

LOSSES = ["generator", "discriminator"]
SHORT = {"iterations": 250, "log_every": 50, "sample_every": 200}


def draw(tmp_path, loss):
    (group,) = read_study(tmp_path).groups
    return draw_losses(group, loss)


def panels(figure):
    return {axes.get_title("left"): axes for axes in figure.axes if axes.get_title("left")}


def is_drawn(axes, xs, ys):
    lines = (
        ([float(x) for x in line.get_xdata()], [float(y) for y in line.get_ydata()])
        for line in axes.findobj(Line2D)
    )
    return (list(map(float, xs)), list(map(float, ys))) in lines


@pytest.mark.parametrize("loss", LOSSES)
def test_panel_shows_the_recorded_losses_of_every_seed(write_run, tmp_path, loss):
    for case in CASES:
        for seed in (0, 1):
            write_run(case, seed=seed, **SHORT)
    figure = draw(tmp_path, loss)
    assert tuple(panels(figure)) == CASES
    for case, axes in panels(figure).items():
        for seed in (0, 1):
            points = RunFolder(tmp_path / f"{case}-as_coded-seed{seed}").read_curves()
            losses = [getattr(point, f"{loss}_loss") for point in points]
            assert is_drawn(axes, [point.iteration for point in points], losses)


@pytest.mark.parametrize("loss", LOSSES)
def test_picture_says_what_it_shows(write_run, tmp_path, texts_of, loss):
    for case in CASES:
        write_run(case)
    texts = texts_of(draw(tmp_path, loss))
    symbol = {"generator": "$L_G$", "discriminator": "$L_D$"}[loss]
    assert f"{loss.capitalize()} loss, as coded in 2018" in texts
    assert any(PRESET_NOTES["quick"] in text for text in texts)
    assert any("data: synthetic shapes" in text for text in texts)
    assert f"{loss} loss {symbol}, sum over 32 images" in texts
    assert texts.count("iteration") == 2
    assert original.NOTE in texts


@pytest.mark.parametrize("loss", LOSSES)
def test_original_stands_behind_runs_on_its_scale(write_run, tmp_path, loss):
    write_run("original", **SHORT)
    figure = draw(tmp_path, loss)
    for case, axes in panels(figure).items():
        curve = read_original_curves(loss)[case]
        # The first three readings: the last iteration, 249, lies before the third.
        assert is_drawn(axes, curve.iterations[:3], curve.losses[:3])
        assert axes.get_xlim()[1] > curve.iterations[2]
    (axes,) = (axes for case, axes in panels(figure).items() if case == "original")
    dashed = next(line for line in axes.lines if line.is_dashed() and len(line.get_xdata()) == 3)
    run = next(line for line in axes.lines if len(line.get_xdata()) == len(range(0, 250, 50)) + 1)
    assert dashed.get_zorder() < run.get_zorder()


@pytest.mark.parametrize(
    "choices", [{"variant": "modern"}, {"loss_reduction": "mean"}, {"batch_size": 16}]
)
def test_original_is_left_out_on_another_scale(write_run, tmp_path, texts_of, choices):
    write_run("original", **SHORT, **choices)
    figure = draw(tmp_path, "generator")
    assert original.NOTE not in texts_of(figure)
    for case, axes in panels(figure).items():
        curve = read_original_curves("generator")[case]
        assert not is_drawn(axes, curve.iterations[:3], curve.losses[:3])
        assert not any(list(line.get_xdata())[:2] == [0, 200] for line in axes.lines)
    batch, reduction = choices.get("batch_size", 32), "sum" if "batch_size" in choices else "mean"
    assert f"generator loss $L_G$, {reduction} over {batch} images" in texts_of(figure)


@pytest.mark.parametrize(
    ("loss", "levels", "words"),
    [
        ("generator", [4.0, 0.0, 16.0], "$L_G$ = 0 or 16"),
        ("discriminator", [8.0, 16.0], "$L_D$ = 16"),
    ],
)
def test_panels_show_the_levels_of_an_undecided_and_a_saturated_d(
    write_run, tmp_path, texts_of, loss, levels, words
):
    write_run("original", **SHORT)
    figure = draw(tmp_path, loss)
    for axes in panels(figure).values():
        for level in levels:
            assert is_drawn(axes, [0, 1], [level, level])
    texts = texts_of(figure)
    assert any(text.startswith("D undecided") and f" = {levels[0]:g}" in text for text in texts)
    assert any(text.startswith("D saturated") and text.endswith(words) for text in texts)


def test_levels_of_saturation_are_left_out_without_a_sigmoid(write_run, tmp_path, texts_of):
    write_run("original", variant="modern", **SHORT)
    figure = draw(tmp_path, "generator")
    assert not any(text.startswith("D saturated") for text in texts_of(figure))
    assert is_drawn(panels(figure)["original"], [0, 1], [0.125, 0.125])


def test_panel_without_a_run_says_why(write_run, tmp_path, texts_of):
    write_run("original", **SHORT)
    (tmp_path / "inception_8-as_coded-seed0").mkdir()
    shown = panels(draw(tmp_path, "generator"))
    written = {case: [text.get_text() for text in axes.texts] for case, axes in shown.items()}
    assert written == {
        **{case: ["not run"] for case in CASES},
        "original": [],
        "inception_8": ["unfinished"],
    }


def test_panel_shows_a_run_until_it_left_the_finite_numbers(write_run, tmp_path):
    write_run("original", non_finite_after=120, **SHORT)
    axes = panels(draw(tmp_path, "generator"))["original"]
    point = RunFolder(tmp_path / "original-as_coded-seed0").read_curves()[-1]
    assert point.iteration == 100
    assert is_drawn(axes, [100], [point.generator_loss])
    assert [text.get_text() for text in axes.texts] == ["not finite after 120 iterations"]


def test_panel_counts_the_seeds_that_left_the_finite_numbers(write_run, tmp_path):
    write_run("original", seed=0, non_finite_after=120, **SHORT)
    write_run("original", seed=1, **SHORT)
    axes = panels(draw(tmp_path, "generator"))["original"]
    assert [text.get_text() for text in axes.texts] == ["1 of 2 seeds not finite"]


@pytest.mark.parametrize(
    ("peak", "top", "note"),
    [
        (100.0, 108.0, []),
        (1e6, 34.56, ["cut off: reaches 1e+06"]),
        (math.inf, 17.28, []),
    ],
)
def test_axis_is_cut_where_one_loss_would_flatten_all_others(write_run, tmp_path, peak, top, note):
    write_run("original", **SHORT)
    record = write_run("inception_8", non_finite_after=200, **SHORT)
    folder = RunFolder(tmp_path / record.config.name)
    *points, last = folder.read_curves()
    folder.write_curves([*points, last.model_copy(update={"generator_loss": peak})])
    axes = panels(draw(tmp_path, "generator"))["inception_8"]
    assert axes.texts[0].get_text().splitlines() == ["not finite after 200 iterations", *note]
    # A margin of 8 % above the peak, twice the level of saturation, or that level.
    assert axes.get_ylim()[1] == pytest.approx(top)
