"""Stacked MNIST: how many of its 1000 modes a generator of three digits in one image finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gaslayers._checks import bad_type, bad_value, check_float, check_int
from gaslayers.study.data import Digits
from gaslayers.study.metrics.classes import divergence, shares_of
from gaslayers.study.metrics.digit_network import CLASSES, DigitNetwork, load_digit_network
from gaslayers.study.metrics.features import extract_features, hash_weights
from gaslayers.study.metrics.sampling import draw_images
from gaslayers.study.metrics.scores import Score, Scores
from gaslayers.study.randomness import make_generator

_OWNER = "evaluate_stacked"
CHANNELS = 3
MODES = CLASSES**CHANNELS
SAMPLES = 26_000
"""As many as the literature draws."""


class StackedEvaluation(Scores):
    """What `gaslayers.study.metrics.evaluate_stacked` found.

    Args:
        modes: Modes with a sample, as the literature counts.
        modes_strict: Modes with at least five samples whose three digits are all told with a
            probability of at least 0.9.
        reverse_kl: Kullback-Leibler divergence of the modes' shares from even ones, in nats.
    """

    modes: Score
    modes_strict: Score
    reverse_kl: Score


@dataclass(frozen=True)
class Modes:
    """The modes of a set of images, as `gaslayers.study.metrics.count_modes` counts them."""

    found: int
    found_strictly: int
    reverse_kl: float


def stack_digits(digits: Digits, count: int, *, seed: int = 0) -> Tensor:
    """Real images of Stacked MNIST: each channel a digit drawn at random, with replacement.

    Args:
        digits: The digits to draw from.
        count: The number of images.
        seed: What they are drawn from.

    Shape:
        - images: (count, 3, 28, 28), in [0, 1].

    Raises:
        TypeError: ``count`` is no int.
        ValueError: ``count`` is below 1.

    Example:
        >>> from gaslayers.study import load_digits
        >>> stack_digits(load_digits(), 2).shape
        torch.Size([2, 3, 28, 28])

    References:
        Srivastava et al., "VEEGAN", 2017; Metz et al., "Unrolled Generative Adversarial Networks",
        2017.
    """
    check_int("stack_digits", "count", count)
    check_int("stack_digits", "seed", seed, minimum=0)
    generator = make_generator(seed, "stacked digits")
    chosen = torch.randint(len(digits), (count, CHANNELS), generator=generator)
    return digits.images[chosen].float() / 255.0


def count_modes(logits: Any, *, least_samples: int = 5, least_confidence: float = 0.9) -> Modes:
    """Count the modes of images of three digits from their classes.

    Args:
        logits: Of each digit of each image.
        least_samples: What the strict count wants of a mode.
        least_confidence: The probability of the class that the strict count wants of each of a
            sample's digits.

    Shape:
        - logits: (N, 3, 10).

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: The shape is another one, or a logit is not finite.
    """
    owner = "count_modes"
    check_int(owner, "least_samples", least_samples)
    check_float(owner, "least_confidence", least_confidence, minimum=0.0, maximum=1.0)
    is_stack = isinstance(logits, Tensor) and logits.shape[1:] == (CHANNELS, CLASSES)
    if not is_stack or len(logits) == 0:
        raise bad_value(owner, "logits", f"have shape (N, {CHANNELS}, {CLASSES}), N >= 1", logits)
    if not bool(logits.isfinite().all()):
        raise bad_value(owner, "logits", "be finite", logits)
    confidence, digit = logits.cpu().double().softmax(2).max(2)
    places = torch.tensor([CLASSES**2, CLASSES, 1])
    mode = (digit * places).sum(1)
    sure = mode[(confidence >= least_confidence).all(1)]
    shares = shares_of(mode, MODES)
    return Modes(
        found=int((shares > 0).sum()),
        found_strictly=int((sure.bincount(minlength=MODES) >= least_samples).sum()),
        reverse_kl=divergence(shares, torch.full_like(shares, 1.0 / MODES)),
    )


def evaluate_stacked(
    generator: Any,
    digits: Digits,
    *,
    network: DigitNetwork | None = None,
    samples: int = SAMPLES,
    image_range: tuple[float, float] = (0.0, 1.0),
    batch_size: int = 500,
    seed: int = 0,
) -> StackedEvaluation:
    """Count the modes that a generator of Stacked MNIST finds, beside those of real stacks.

    Args:
        generator: As for `evaluate`.
        digits: Real digits, which the floor is stacked of.
        network: What classifies a digit; by default that of the package.
        samples: The number of images.
        image_range: As for `evaluate`.
        batch_size: Images at a time.
        seed: Where noise and real stacks come from.

    Shape:
        - images: (N, 3, H, W).

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: The images have another shape.

    Note:
        Differs from the literature: the classifier is the digit network. Shares are compared with
        even ones, for digits are drawn at random; N samples of those have a divergence of about
        999 / 2N.
    """
    check_int(_OWNER, "samples", samples)
    check_int(_OWNER, "batch_size", batch_size)
    check_int(_OWNER, "seed", seed, minimum=0)
    if network is not None and not isinstance(network, DigitNetwork):
        raise bad_type(_OWNER, "network", "be a DigitNetwork or None", network)
    classifier = load_digit_network() if network is None else network
    made = draw_images(
        _OWNER, generator, samples, image_range=image_range, batch_size=batch_size, seed=seed
    )
    if made.shape[1] != CHANNELS:
        raise bad_value(_OWNER, "generator", "make images of 3 channels", tuple(made.shape))
    value, floor = (
        count_modes(_classify(images, classifier, batch_size=batch_size))
        for images in (made, stack_digits(digits, samples, seed=seed))
    )
    return StackedEvaluation(
        samples=samples,
        features=type(classifier).__name__,
        features_sha256=hash_weights(classifier),
        modes=Score(value=value.found, floor=floor.found),
        modes_strict=Score(value=value.found_strictly, floor=floor.found_strictly),
        reverse_kl=Score(value=value.reverse_kl, floor=floor.reverse_kl),
    )


@torch.no_grad()
def _classify(images: Tensor, network: DigitNetwork, *, batch_size: int) -> Tensor:
    """(N, 3, H, W) -> (N, 3, 10)."""
    each = images.flatten(0, 1).unsqueeze(1)
    features = extract_features(_OWNER, "generator", each, network, batch_size=batch_size)
    logits = network.classify(features.to(network.head.weight)).cpu()
    return logits.reshape(-1, CHANNELS, CLASSES)
