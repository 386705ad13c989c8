"""Losses other than least squares, and readings that are spoilt for a moment."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import integrate, stats
from torch.nn.functional import softplus

from gaslayers.study import Watch
from gaslayers.study.diagnosis import Reading, diagnose
from gaslayers.study.diagnosis.readings import _expected_slope
from gaslayers.study.diagnosis.verdict import CAUTION, REMEDIES


def play(head, loss_of_d, loss_of_g, *, gap, since=20, iterations=200, gradients=True):
    """D's scores lie 1 apart, and ``gap`` from some iteration on."""
    noise = torch.Generator().manual_seed(0)
    watch = Watch(head=head, balance_every=0)
    for t in range(iterations):
        half = 0.5 * (gap if t >= since else 1.0)
        real, fake = (torch.randn(2, 16, 1, generator=noise) * 0.3) + torch.tensor(
            [half, -half]
        ).view(2, 1, 1)
        watch.discriminator_step(real, fake, loss_of_d(real, fake))
        images = torch.zeros(16, 3, requires_grad=True) * 1.0
        images = watch.generated(images) if gradients else images
        loss = loss_of_g(fake + 0.1 * images.sum(1, keepdim=True))
        loss.backward()
        watch.generator_step(loss)
    return watch.verdict()


def bce_of_d(real, fake):
    return softplus(-real).mean() + softplus(fake).mean()


def hinge_of_d(real, fake):
    return (1 - real).relu().mean() + (1 + fake).relu().mean()


def wgan_of_d(real, fake):
    return fake.mean() - real.mean()


def test_bce_with_logits_is_not_saturated_while_its_gradient_stays():
    found = play("sigmoid", bce_of_d, lambda fake: softplus(-fake).mean(), gap=40.0)
    assert found.name == "healthy"
    assert found.remedy == CAUTION


def test_bce_that_g_cannot_learn_from_is_saturated():
    # The loss of the first paper, log(1 - s): its gradient is s.
    found = play("sigmoid", bce_of_d, lambda fake: -softplus(fake).mean(), gap=40.0)
    assert found.name == "saturated"


@pytest.mark.parametrize(
    ("loss_of_d", "what"),
    [(hinge_of_d, "its loss is next to nothing"), (wgan_of_d, "scores lie 4 spreads apart")],
)
@pytest.mark.parametrize("since", [0, 20])
def test_d_that_separates_perfectly_is_healthy_with_a_caution(loss_of_d, what, since):
    found = play("linear", loss_of_d, lambda fake: -fake.mean(), gap=40.0, since=since)
    assert found.name == "healthy"
    assert found.remedy == CAUTION
    assert found.evidence[-1].startswith("D separates real from generated images perfectly since")
    assert what in found.evidence[-1] or since == 0


def test_even_play_has_no_caution():
    found = play("linear", hinge_of_d, lambda fake: -fake.mean(), gap=1.0)
    assert (found.name, found.remedy) == ("healthy", REMEDIES["healthy"])


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["discriminator_loss", "generator_loss", "gradient_norm"])
def test_number_that_is_finite_again_is_no_divergence(name, value):
    def run(spoilt, count=30):
        return [Reading(t, **{name: value if t in spoilt else 1.0}) for t in range(count)]

    assert diagnose(run({3, 10, 11})).name == "healthy"
    found = diagnose(run({3, *range(12, 30)}))
    assert (found.name, found.since) == ("diverged", 12)
    # What a gradient scaler brings about by itself.
    assert diagnose(run({29})).name == ("healthy" if name == "gradient_norm" else "diverged")


def test_divergence_is_told_from_numbers_that_are_read_now_and_then():
    readings = [Reading(t, discriminator_loss=1.0) for t in range(20)]
    readings[15] = Reading(15, discriminator_loss=1.0, generator_loss=math.nan)
    assert diagnose(readings).since == 15


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 128.0, torch.tensor(128.0)])
def test_gradients_of_any_type_are_read_and_unscaled(dtype, scale):
    watch = Watch()
    scores = torch.rand(4)
    watch.discriminator_step(scores, scores, torch.tensor(1.0))
    images = torch.zeros(4, 100, dtype=dtype, requires_grad=True) * 1.0
    (watch.generated(images, scale=scale) * 200.0 * float(scale)).sum().backward()
    assert watch.readings[0].gradient_norm == pytest.approx(4000.0, rel=1e-3)


def test_two_readings_far_apart_are_no_failure():
    readings = [Reading(t, real_slope=0.0, fake_slope=0.0) for t in (0, 500, 1000)]
    assert diagnose(readings[:2]).name == "healthy"
    assert diagnose(readings).name == "saturated"


@pytest.mark.parametrize("mean", [0.0, 3.0, -40.0])
@pytest.mark.parametrize("std", [1e-9, 0.1, 1.0, 8.0, 100.0, 3e4])
def test_slope_of_a_normal_distribution_is_that_of_adaptive_quadrature(mean, std):
    def density(x):
        far = math.exp(-abs(x))
        return far / (1.0 + far) ** 2 * stats.norm.pdf(x, mean, std)

    if std < 1e-6:
        expected = math.exp(-abs(mean)) / (1.0 + math.exp(-abs(mean))) ** 2
    else:
        ends = (max(-60.0, mean - 12 * std), min(60.0, mean + 12 * std))
        peak = min(max(mean - math.copysign(std**2, mean), -3.0), 3.0)
        points = sorted({min(max(p, ends[0]), ends[1]) for p in (mean, peak, -3.0, 0.0, 3.0)})
        expected, _ = integrate.quad(density, *ends, points=points, limit=500, epsabs=0.0)
    assert _expected_slope(mean, std) == pytest.approx(expected, rel=2e-3, abs=0.0)
