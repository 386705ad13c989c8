"""One call that judges a generator by every metric."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gaslayers._checks import bad_type, bad_value, check_int
from gaslayers.study.metrics.classes import compare_classes, limits_of
from gaslayers.study.metrics.digit_network import load_digit_network
from gaslayers.study.metrics.features import (
    UNIT,
    Extractor,
    check_features,
    check_unit,
    extract_features,
    hash_weights,
    read_images,
)
from gaslayers.study.metrics.frechet import frechet_distance
from gaslayers.study.metrics.kernel import kernel_distance
from gaslayers.study.metrics.manifolds import compare_manifolds
from gaslayers.study.metrics.neighbours import nearest_ratio
from gaslayers.study.metrics.sampling import draw_images
from gaslayers.study.metrics.scores import Evaluation, Score
from gaslayers.study.randomness import make_generator

_OWNER = "evaluate"


@dataclass(frozen=True)
class Sample:
    """What the metrics need of a set of images.

    Args:
        features: (N, d), float64.
        logits: (N, K), float64; None where nothing classifies.
        spread: See `spread_of`.
    """

    features: Tensor
    logits: Tensor | None
    spread: float

    def __len__(self) -> int:
        return len(self.features)


def evaluate(
    generator: Any,
    real: Any,
    *,
    features: Extractor | None = None,
    samples: int | None = None,
    training: Any = None,
    image_range: tuple[float, float] = (0.0, 1.0),
    nearest_k: int = 5,
    batch_size: int = 500,
    seed: int = 0,
) -> Evaluation:
    """Judge a generator by every metric, each beside its floor on real images.

    Real images are split at random in two: the generated ones and the second half are both
    compared with the first. So the floor has the same number of samples, and what a perfect
    generator would get.

    Args:
        generator: A module with an attribute ``latent_size``, which gets normal noise of shape
            (n, latent_size); a function of a number n that returns as many images; or images.
            A module runs in the mode that it is in, and its buffers are left as they are. What a
            function runs is out of reach: put it in eval mode, where its buffers stay, and let
            it draw from PyTorch's global generators, which alone are seeded and put back.
        real: Real images, or `gaslayers.study.Digits`.
        features: What makes features of images, such as a module in eval mode; by default the
            digit network of the package. Where it has a method ``classify`` from features to
            logits, the scores of classes are there, too.
        samples: How many images are compared; by default half of the real ones.
        training: Images that the generator was trained on, to look for copies of. By default the
            real ones of both halves. They may hold real images: in the floor, such an image is
            compared with the other training images, and does not count as a copy of itself.
        image_range: The values of black and of white in generated images, (-1, 1) of a tanh. Floats
            are mapped to [0, 1], where real images have to be then. Bytes have 0 and 255. Where
            ``features`` takes another range, leave it out and give all images in that one.
        nearest_k: See `compare_manifolds`.
        batch_size: Images at a time.
        seed: Where noise, the split and subsets come from.

    Shape:
        - images: (N, C, H, W), uint8 or floating-point in the range that ``features`` takes; for
          the digit network (N, 1, H, W), floats in [0, 1].

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: There are too few images for a metric, shapes differ, or a feature is not
            finite.

    Example:
        >>> real = torch.rand(200, 1, 2, 2)
        >>> evaluation = evaluate(
        ...     lambda count: torch.rand(count, 1, 2, 2), real, features=lambda x: x.flatten(1)
        ... )
        >>> evaluation.samples, evaluation.classes_seen
        (100, None)
    """
    check_int(_OWNER, "batch_size", batch_size)
    check_int(_OWNER, "seed", seed, minimum=0)
    extractor = load_digit_network() if features is None else features
    if not callable(extractor):
        raise bad_type(_OWNER, "features", "be callable", extractor)
    images = read_images(_OWNER, "real", real).cpu()
    count = _check_samples(samples, len(images))
    order = torch.randperm(len(images), generator=make_generator(seed, "real split"))
    made = draw_images(
        _OWNER, generator, count, image_range=image_range, batch_size=batch_size, seed=seed
    )
    if made.shape[1:] != images.shape[1:]:
        rule = f"make images of the real ones' shape, {tuple(images.shape[1:])}"
        raise bad_value(_OWNER, "generator", rule, tuple(made.shape[1:]))
    if tuple(image_range) != UNIT:
        check_unit(_OWNER, "real", images)
    generated, reference, others = (
        describe(argument, part, extractor, batch_size=batch_size)
        for argument, part in (
            ("generator", made),
            ("real", images[order[:count]]),
            ("real", images[order[count : 2 * count]]),
        )
    )
    trained_on = member = None
    if training is not None:
        seen = read_images(_OWNER, "training", training).cpu()
        if tuple(image_range) != UNIT:
            check_unit(_OWNER, "training", seen)
        trained_on = extract_features(_OWNER, "training", seen, extractor, batch_size=batch_size)
        member = _find_members(images[order[count : 2 * count]], seen)
    return score(
        generated,
        reference,
        others,
        training=trained_on,
        member=member,
        nearest_k=nearest_k,
        seed=seed,
        features=_name(extractor),
        features_sha256=hash_weights(extractor),
    )


def describe(
    argument: str, images: Tensor, extractor: Extractor, *, batch_size: int = 500
) -> Sample:
    """Take from images what the metrics need of them."""
    features = extract_features(_OWNER, argument, images, extractor, batch_size=batch_size)
    return Sample(features, _classify(argument, features, extractor), spread_of(images))


def score(
    generated: Sample,
    reference: Sample,
    others: Sample,
    *,
    features: str,
    features_sha256: str | None,
    training: Tensor | None = None,
    member: Tensor | None = None,
    nearest_k: int = 5,
    subsets: int = 50,
    seed: int = 0,
) -> Evaluation:
    """Compare generated and other real samples with a reference; see `evaluate`.

    Args:
        generated: What is judged.
        reference: Real images that it is compared with.
        others: Real images for the floor.
        features: The name of what made the features.
        features_sha256: Of its weights.
        training: Features of the training images; by default both halves of the real ones.
        member: Which of the others are training images; None: none, or all by default.
        nearest_k: As for `compare_manifolds`.
        subsets: As for `kernel_distance`.
        seed: Of what is drawn.
    """
    if reference.spread == 0.0:
        raise bad_value(_OWNER, "real", "hold images that differ", f"{len(reference)} equal ones")
    if training is None:
        training = torch.cat([reference.features, others.features])
        member = torch.ones(len(others), dtype=torch.bool)
    values, floors = (
        _measure(
            sample, reference, training, among, nearest_k=nearest_k, subsets=subsets, seed=seed
        )
        for sample, among in ((generated, None), (others, member))
    )
    limits = {}
    if reference.logits is not None and others.logits is not None:
        limits = asdict(limits_of(reference.logits, others.logits, len(generated), seed=seed))
        limits["classes_seen"] = limits.pop("seen")
    return Evaluation(
        samples=len(generated),
        features=features,
        features_sha256=features_sha256,
        **{
            name: Score(value=values[name], floor=floors[name], limit=limits.get(name))
            for name in values
        },
    )


def _measure(
    sample: Sample,
    reference: Sample,
    trained_on: Tensor,
    member: Tensor | None,
    *,
    nearest_k: int,
    subsets: int,
    seed: int,
) -> dict[str, float]:
    mine, real = sample.features, reference.features
    found = {
        "frechet_distance": frechet_distance(mine, real),
        "kernel_distance": kernel_distance(mine, real, subsets=subsets, seed=seed),
        **asdict(compare_manifolds(mine, real, nearest_k=nearest_k)),
        "nearest_ratio": nearest_ratio(mine, trained_on, member=member),
        "spread": sample.spread / reference.spread,
    }
    if sample.logits is not None and reference.logits is not None:
        classes = compare_classes(sample.logits, reference.logits)
        found |= {
            "classes_seen": classes.seen,
            "total_variation": classes.total_variation,
            "reverse_kl": classes.reverse_kl,
            "classifier_score": classes.score,
        }
    return found


def _find_members(images: Tensor, among: Tensor) -> Tensor | None:
    """Which images are, pixel by pixel, among others; None where none is."""
    known = {image.numpy().tobytes() for image in among}
    found = torch.tensor([image.numpy().tobytes() in known for image in images])
    return found if bool(found.any()) else None


@torch.no_grad()
def _classify(argument: str, features: Tensor, extractor: Extractor) -> Tensor | None:
    classify = getattr(extractor, "classify", None)
    if classify is None:
        return None
    weight = next(iter(extractor.parameters()), None) if isinstance(extractor, nn.Module) else None
    moved = features if weight is None else features.to(weight)
    with torch.autocast(moved.device.type, enabled=False):
        logits: Tensor = classify(moved)
    check_features(_OWNER, argument, logits, least=1)
    return logits.double().cpu()


def spread_of(images: Tensor) -> float:
    """The part of the pixels' variance that lies between images, from 0 to 1.

    The rest lies within them. Contrast and brightness move both parts alike.
    """
    values = images.flatten(1).double()
    between = values.var(0, correction=0).mean().item()
    within = values.var(1, correction=0).mean().item()
    return between / (between + within) if between > 0.0 else 0.0


def _check_samples(samples: Any, available: int) -> int:
    if samples is None:
        return available // 2
    count = check_int(_OWNER, "samples", samples, minimum=2)
    if 2 * count > available:
        rule = f"be at most half of the {available} real images, of which the floor takes one half"
        raise bad_value(_OWNER, "samples", rule, count)
    return count


def _name(extractor: Extractor) -> str:
    kind = type(extractor)
    return getattr(extractor, "__name__", kind.__name__)
