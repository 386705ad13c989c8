"""What the classes of generated images say: how many there are, and how evenly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gaslayers._checks import bad_value, check_float
from gaslayers.study.metrics.features import check_pair

_OWNER = "compare_classes"
LEAST_SHARE = 0.1
"""A class with less of its share of the real images does not count as seen."""
_DRAWS = 2000
"""Perfect generators that limits are read from."""


@dataclass(frozen=True)
class Classes:
    """The classes of generated images beside those of real ones.

    Args:
        seen: Classes of the real images that the generated ones have at least a tenth of.
        total_variation: Half the sum of the differences of their shares, from 0 to 1.
        reverse_kl: Kullback-Leibler divergence of generated from real shares, in nats; infinite
            where a generated class is not among the real ones.
        score: The Inception score by this classifier: 1 where it sees one class or is unsure of
            all images, the number of classes where it is sure and they are even.
        shares: Of the generated images, by class.
    """

    seen: int
    total_variation: float
    reverse_kl: float
    score: float
    shares: tuple[float, ...]


def compare_classes(generated: Any, real: Any, *, least_share: float = LEAST_SHARE) -> Classes:
    """Compare the classes that a classifier sees in generated and in real images.

    Both are classified, so that the classifier's own errors are on both sides.

    Args:
        generated: The classifier's logits of generated images.
        real: Those of real images.
        least_share: A class is seen if the generated images have this part of its share of the
            real ones: the errors of the classifier alone leave a few images in every class.

    Shape:
        - generated: (N, K), N >= 1.
        - real: (M, K), M >= 1.

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: A shape is another one, there is no sample, or a logit is not finite.

    Note:
        Differs from the papers: the Inception score is by another classifier, and over all samples
        at once in place of ten parts.

    Example:
        >>> logits = torch.eye(10).repeat(5, 1) * 50.0
        >>> few = logits[logits.argmax(1) < 7]
        >>> classes = compare_classes(few, logits)
        >>> classes.seen, round(classes.total_variation, 6), round(classes.score, 6)
        (7, 0.3, 7.0)

    References:
        Salimans et al., "Improved Techniques for Training GANs", 2016, section 4 (the score).
        Che et al., "Mode Regularized Generative Adversarial Networks", 2017 (counting modes).
    """
    check_float(_OWNER, "least_share", least_share, above=0.0, maximum=1.0)
    on_generated, on_real = check_pair(_OWNER, generated, real, least=1)
    classes = on_real.shape[1]
    q, p = (shares_of(logits.argmax(1), classes) for logits in (on_generated, on_real))
    is_real = p > 0
    return Classes(
        seen=int((is_real & (q >= least_share * p) & (q > 0)).sum()),
        total_variation=0.5 * (q - p).abs().sum().item(),
        reverse_kl=divergence(q, p),
        score=_score(on_generated),
        shares=tuple(q.tolist()),
    )


@dataclass(frozen=True)
class Limits:
    """What one perfect generator in 500 is beyond, by chance alone.

    Args:
        seen: Of `Classes.seen`, from below.
        total_variation: Of `Classes.total_variation`, from above.
    """

    seen: float
    total_variation: float


def limits_of(
    reference: Tensor,
    others: Tensor,
    count: int,
    *,
    least_share: float = LEAST_SHARE,
    seed: int = 0,
) -> Limits:
    """Draw samples of a perfect generator's classes, and look how far they stray.

    The classes are drawn with the shares of the other real images, which the reference knows
    nothing of. Those shares stray themselves, so that the limits are on the wide side.

    Args:
        reference: Logits of the real images that are compared with.
        others: Logits of other real images.
        count: The number of generated images.
        least_share: As for `compare_classes`.
        seed: What is drawn from.

    Shape:
        - reference: (M, K).
        - others: (L, K).
    """
    classes = reference.shape[1]
    p, drawn_from = (shares_of(logits.argmax(1), classes).numpy() for logits in (reference, others))
    generator = np.random.default_rng(seed)
    seen, variation = [], []
    for _ in range(_DRAWS):
        q = generator.multinomial(count, drawn_from) / count
        seen.append(int(((p > 0) & (q >= least_share * p) & (q > 0)).sum()))
        variation.append(0.5 * float(np.abs(q - p).sum()))
    rare = len(seen) // 500
    return Limits(float(sorted(seen)[rare]), float(sorted(variation)[-1 - rare]))


def shares_of(labels: Tensor, classes: int) -> Tensor:
    """(N,) labels -> (classes,), the part of the samples with each label."""
    if len(labels) == 0:
        raise bad_value("shares_of", "labels", "hold at least one", 0)
    return labels.bincount(minlength=classes).double() / len(labels)


def divergence(q: Tensor, p: Tensor) -> float:
    """The Kullback-Leibler divergence of shares ``q`` from shares ``p``, in nats."""
    there = q > 0
    if bool((p[there] == 0).any()):
        return math.inf
    return (q[there] * (q[there] / p[there]).log()).sum().item()


def _score(logits: Tensor) -> float:
    logs = logits.log_softmax(1)
    mean = torch.logsumexp(logs, 0) - math.log(len(logs))
    return (logs.exp() * (logs - mean)).sum(1).mean().exp().item()
