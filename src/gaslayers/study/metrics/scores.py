"""The numbers of an evaluation, each beside its floor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict


class Score(BaseModel):
    """One number of generated images, beside the same number of real ones.

    Args:
        value: Of generated images, compared with real ones.
        floor: Of as many other real images, compared with the same real ones: what a perfect
            generator would get.
        limit: What one perfect generator in 500 is beyond, by chance alone; None where unknown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    value: float
    floor: float
    limit: float | None = None


class Scores(BaseModel):
    """A record of scores that prints as a table; fields that are no scores stand above it."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    samples: int
    features: str
    features_sha256: str | None

    def scores(self) -> Iterator[tuple[str, Score]]:
        """The scores that there are, by name."""
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, Score):
                yield name, value

    def __str__(self) -> str:
        lines = [f"{self.samples} samples, features of {self.features}"]
        lines.append(f"{'':20}{'generated':>12}{'real':>12}  better")
        lines += [
            f"{name.replace('_', ' '):20}{score.value:12.4g}{score.floor:12.4g}  {BETTER[name]}"
            for name, score in self.scores()
        ]
        return "\n".join(lines)


class Evaluation(Scores):
    """What `gaslayers.study.metrics.evaluate` found.

    Every score stands beside its floor, which is of the same number of samples.

    Args:
        frechet_distance: See `gaslayers.study.metrics.frechet_distance`.
        kernel_distance: See `gaslayers.study.metrics.kernel_distance`.
        precision: See `gaslayers.study.metrics.Manifolds`; so are recall, density and coverage.
        nearest_ratio: See `gaslayers.study.metrics.nearest_ratio`.
        spread: The part of the pixels' variance that lies between images, over that of the real
            ones; 0: all images are the same.
        classes_seen: See `gaslayers.study.metrics.Classes`; so are the three that follow. None
            where the features' module has no ``classify``.
    """

    frechet_distance: Score
    kernel_distance: Score
    precision: Score
    recall: Score
    density: Score
    coverage: Score
    nearest_ratio: Score
    spread: Score
    classes_seen: Score | None = None
    total_variation: Score | None = None
    reverse_kl: Score | None = None
    classifier_score: Score | None = None


BETTER: dict[str, Literal["lower", "higher", "near real"]] = {
    "frechet_distance": "lower",
    "kernel_distance": "lower",
    "precision": "higher",
    "recall": "higher",
    "density": "higher",
    "coverage": "higher",
    "nearest_ratio": "near real",
    "spread": "near real",
    "classes_seen": "higher",
    "total_variation": "lower",
    "reverse_kl": "lower",
    "classifier_score": "higher",
    "modes": "higher",
    "modes_strict": "higher",
}
"""Which way each score gets better."""


def name_metric(metric: str) -> str:
    """A score's name in words."""
    return metric.replace("_", " ").replace("frechet", "Frechet")
