"""Scripted runs of every failure of training, and healthy ones, through a watch."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from gaslayers.models import CASES
from gaslayers.study.diagnosis import (
    Levels,
    Reading,
    Thresholds,
    diagnose,
    readings_of_curves,
    readings_of_losses,
)
from gaslayers.study.records import RunFolder
from gaslayers.study.report.original import BATCH_SIZE, read_original_curves
from tests.study.diagnosis import scripts

RUNS = 20
RECORDS = Path(__file__).parents[3] / "examples" / "records" / "faithful"
FAILURES = {
    "saturated": scripts.saturated,
    "dead": scripts.dead,
    "overpowering D": scripts.overpowering,
    "diverged": scripts.diverged,
}


def verdicts_of(make):
    found = []
    for seed in range(RUNS):
        head, script = make(random.Random(seed))
        found.append(scripts.play(script, head=head, seed=seed).verdict())
    return found


@pytest.mark.parametrize("name", FAILURES)
def test_scripted_failures_are_told(name):
    found = Counter(verdict.name for verdict in verdicts_of(FAILURES[name]))
    assert found[name] >= 0.95 * RUNS, found


def test_healthy_runs_raise_no_alarm():
    assert Counter(verdict.name for verdict in verdicts_of(scripts.healthy)) == {"healthy": RUNS}


def test_verdict_says_since_when_and_by_what():
    head, script = scripts.saturated(random.Random(3))
    found = scripts.play(script, head=head).verdict()
    first = next(t for t in range(scripts.ITERATIONS) if abs(script(t)[0]) > 5.0)
    assert found.since == first
    assert "Mean s(1 - s) is" in found.evidence[0]
    assert found.judged == ("signals",)
    assert found.remedy.endswith(".")


def curves_of(case):
    on_d, on_g = (read_original_curves(loss)[case] for loss in ("discriminator", "generator"))
    return readings_of_losses(on_d.iterations, discriminator=on_d.losses, generator=on_g.losses)


@pytest.mark.parametrize("case", CASES)
def test_curves_of_the_original_are_told_by_losses_alone(case):
    levels = Levels.of(batch_size=BATCH_SIZE, reduction="sum")
    found = diagnose(curves_of(case), levels=levels)
    expected = {"depthwise_inception": "saturated", "depthwise_inception_dense": "dead"}
    assert found.name == expected.get(case, "healthy")
    assert found.judged == ("losses",)


@pytest.mark.parametrize("case", CASES)
def test_recorded_runs_are_told_by_their_curves(case):
    points = RunFolder(RECORDS / f"{case}-as_coded-seed0").read_curves()
    found = diagnose(readings_of_curves(points, head="sigmoid"))
    expected = {"depthwise_inception": "saturated", "depthwise_inception_dense": "dead"}
    assert found.name == expected.get(case, "healthy")


@pytest.mark.parametrize("name", ["saturated", "dead"])
def test_losses_that_stick_are_told_in_any_convention(name):
    told = 0
    for seed in range(RUNS):
        draw = random.Random(seed)
        reduction, size = draw.choice(["sum", "mean"]), draw.choice([8, 32, 128])
        levels = Levels.of(batch_size=size, reduction=reduction)
        on_d, on_g = draw.choice(levels.saturated) if name == "saturated" else levels.undecided
        noise = 0.9 * levels.tolerance
        every = draw.choice([1, 10, 200])
        steps = range(0, 1000, every)
        start = draw.randrange(0, 200)
        losses = [
            (on_d + draw.uniform(-noise, noise), on_g + draw.uniform(-noise, noise))
            if t >= start
            else (on_d + 5 * levels.tolerance, on_g + 9 * levels.tolerance)
            for t in steps
        ]
        readings = readings_of_losses(
            list(steps),
            discriminator=[of_d for of_d, _ in losses],
            generator=[of_g for _, of_g in losses],
        )
        told += diagnose(readings, levels=levels).name == name
    assert told >= 0.95 * RUNS


def test_scores_without_spread_are_alive_where_real_and_generated_differ():
    found = scripts.play(lambda t: (0.8, 1e-5, 0.2, 1e-5, 0.1), head="linear").verdict()
    assert found.name == "healthy"


@pytest.mark.parametrize(
    ("loss", "gradient", "name"),
    [
        (1e-3, 1e-5, "overpowering D"),
        (1e-3, 1e-3, "healthy"),  # G still learns
        (0.1, 1e-5, "healthy"),  # D does not win
        (1e-3, None, "healthy"),  # unknown
    ],
)
def test_overpowering_takes_a_low_loss_and_a_low_gradient(loss, gradient, name):
    start = [Reading(t, discriminator_loss=1.0, gradient_norm=1.0) for t in range(20)]
    end = [
        Reading(t, discriminator_loss=loss, gradient_norm=gradient, real_logit_mean=1.0)
        for t in range(20, 130)
    ]
    assert diagnose(start + end).name == name


def test_a_failure_that_ended_is_none():
    def script(t):
        return (20.0, 1.0, -20.0, 1.0, 0.1) if t < 150 else (1.0, 1.0, -1.0, 1.0, 0.1)

    assert scripts.play(script, head="sigmoid").verdict().name == "healthy"


def test_failure_begins_at_its_number_of_iterations():
    def readings(count):
        return [Reading(t, real_slope=1e-5, fake_slope=1e-5) for t in range(count)]

    assert diagnose(readings(99)).name == "healthy"
    assert diagnose(readings(100)).name == "saturated"
    few = Thresholds(saturated_steps=10)
    assert diagnose(readings(10), thresholds=few).name == "saturated"
    assert diagnose(readings(10), thresholds=few).since == 0


def test_thresholds_are_those_that_are_given():
    readings = [Reading(t, real_slope=0.01, fake_slope=0.01) for t in range(200)]
    assert diagnose(readings).name == "healthy"
    assert diagnose(readings, thresholds=Thresholds(saturated_slope=0.1)).name == "saturated"


def test_losses_of_a_wasserstein_critic_are_not_taken_for_those_of_least_squares():
    readings = [
        Reading(t, discriminator_loss=-float(t), gradient_norm=1.0 / (1 + t) ** 3)
        for t in range(300)
    ]
    assert diagnose(readings).name == "healthy"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: diagnose([]), ValueError, "diagnose: `readings` must hold a reading"),
        (lambda: diagnose([1]), TypeError, "diagnose: `readings` must be a list of readings"),
        (
            lambda: diagnose([Reading(1, generator_loss=1.0), Reading(0, generator_loss=1.0)]),
            ValueError,
            r"in the order of their iterations, got \[1, 0\]",
        ),
        (
            lambda: diagnose([Reading(0, generator_loss=1.0)], evaluation=3),
            TypeError,
            "`evaluation` must be an Evaluation or None",
        ),
        (lambda: Thresholds(dead_logit=0.0), ValueError, "Thresholds: `dead_logit` must be > 0"),
        (lambda: Thresholds(dead_steps=1.5), TypeError, "Thresholds: `dead_steps` must be an int"),
        (
            lambda: readings_of_losses([0], discriminator=[], generator=[1.0]),
            ValueError,
            r"as long as `discriminator` and `generator`, got \(1, 0, 1\)",
        ),
    ],
)
def test_bad_input_is_said(call, error, message):
    with pytest.raises(error, match=message):
        call()
