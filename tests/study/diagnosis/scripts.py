"""Scripted GANs: what their networks score is written down, and a loop feeds it to a watch."""

from __future__ import annotations

import math
import random

import torch

from gaslayers.losses import LSGANDiscriminatorLoss, LSGANGeneratorLoss
from gaslayers.study.watch import Watch

ITERATIONS = 230
BATCH = 16
TINY = 1e-30


def play(script, *, head, iterations=ITERATIONS, seed=0, **options):
    """Let a script's scores pass through a GAN's loop, gradients included, under a watch.

    ``script(t)`` gives the mean and spread of D's logits on real and on generated images, and the
    slope of a logit by the image.
    """
    generator = torch.Generator().manual_seed(seed)
    watch = Watch(head=head, **options)
    loss_of_d, loss_of_g = LSGANDiscriminatorLoss(), LSGANGeneratorLoss()
    score = torch.sigmoid if head == "sigmoid" else lambda logits: logits
    for t in range(iterations):
        real_mean, real_std, fake_mean, fake_std, slope = script(t)
        noise = torch.randn(2, BATCH, 1, generator=generator)
        real, fake = real_mean + real_std * noise[0], fake_mean + fake_std * noise[1]
        watch.discriminator_step(real, fake, loss_of_d(score(real), score(fake)))
        images = watch.generated(torch.zeros(BATCH, 3, requires_grad=True) * 1.0)
        loss = loss_of_g(score(fake + slope * images.sum(1, keepdim=True)))
        loss.backward()
        watch.generator_step(loss)
    return watch


def healthy(draw: random.Random):
    """Scores that wander; some start dead, lose the thread for a while, or nearly win."""
    head = draw.choice(["linear", "sigmoid"])
    asleep = draw.choice([0, 0, 60, 120])  # as small initial weights leave D
    spell = draw.randrange(10, 120)  # saturated for some iterations, and out of it
    scale = 0.3 if head == "linear" else draw.uniform(1.0, 3.0)
    middle = 0.5 if head == "linear" else 0.0
    edge = draw.uniform(0.4, 1.4)
    phase = draw.uniform(0, 6)

    def script(t):
        if t < asleep:
            return 0.0, 1e-4, 0.0, 1e-4, 0.1
        if head == "sigmoid" and spell <= t < spell + 80:
            return 15.0, 1.0, -15.0, 1.0, 0.1
        sway = 0.3 * scale * math.sin(t / 20 + phase)
        gap = edge * scale
        return middle + gap + sway, scale, middle - gap + sway, scale, 0.05

    return head, script


def saturated(draw: random.Random):
    """Every logit far from 0, in one corner or from one to another."""
    since = draw.randrange(0, ITERATIONS - 110)
    switch = draw.randrange(since, ITERATIONS)
    corners = [(1, 1), (-1, -1), (1, -1), (-1, 1)]
    first, second = draw.choice(corners), draw.choice(corners)
    size, std = draw.uniform(14.0, 80.0), draw.uniform(0.1, 1.5)

    def script(t):
        if t < since:
            return 1.0, 1.0, -1.0, 1.0, 0.1
        real, fake = first if t < switch else second
        return real * size, std, fake * size, std, 0.1

    return "sigmoid", script


def dead(draw: random.Random):
    """The same score for everything, from the start or soon after it."""
    since = draw.randrange(0, ITERATIONS - 205)
    level, std = draw.uniform(-0.5, 0.5), 10 ** draw.uniform(-7, -3.6)
    head = draw.choice(["linear", "sigmoid"])

    def script(t):
        return (0.6, 0.3, 0.4, 0.3, 0.1) if t < since else (level, std, level, std, 1e-4)

    return head, script


def overpowering(draw: random.Random):
    """L_D falls to next to nothing, and so does what G learns from."""
    since = draw.randrange(15, ITERATIONS - 110)
    std, slope = 10 ** draw.uniform(-4, -1.6), 10 ** draw.uniform(-9, -6)

    def script(t):
        return (0.7, 0.4, 0.3, 0.4, 0.1) if t < since else (1.0, std, 0.0, std, slope)

    return "linear", script


def diverged(draw: random.Random):
    """A score that is not finite, once, somewhere."""
    at = draw.randrange(0, ITERATIONS)
    value = draw.choice([math.nan, math.inf, -math.inf])
    head = draw.choice(["linear", "sigmoid"])

    def script(t):
        return (0.6, 0.3, value if t >= at else 0.4, 0.3, 0.1)

    return head, script
