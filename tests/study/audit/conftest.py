"""Sweeps whose runs were never trained: records with scores that a test chooses."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gaslayers.study.config import PRESETS, TRAINING, RunConfig
from gaslayers.study.metrics.scores import Evaluation, Score
from gaslayers.study.records import CurvePoint, Machine, MemoryPrediction, Record, RunFolder

HYPOTHESES = """
level = 0.05
confidence = 0.95
metric = "frechet_distance"
margin = 0.10
share = 0.5
seeds = {seeds}
stopping = "After {seeds} seeds."
{tests}
"""

FLOORS = {
    "frechet_distance": 0.2,
    "kernel_distance": 0.0,
    "precision": 0.9,
    "recall": 0.9,
    "density": 1.0,
    "coverage": 0.9,
    "nearest_ratio": 1.0,
    "spread": 1.0,
    "classes_seen": 10.0,
    "total_variation": 0.02,
    "reverse_kl": 0.0,
    "classifier_score": 9.8,
}

Plant = Callable[..., Path]


class Sweep:
    """The folder of a sweep, into which a test puts runs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sha256 = ""

    def ask(self, tests: str, *, seeds: int = 10) -> None:
        """Write the hypotheses, which every run that follows is of."""
        content = HYPOTHESES.format(tests=tests, seeds=seeds).encode()
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / "hypotheses.toml").write_bytes(content)
        self.sha256 = hashlib.sha256(content).hexdigest()

    def plant(
        self,
        folder: str,
        case: str,
        seed: int,
        *,
        frechet: float = 5.0,
        failed: bool = False,
        finite: bool = True,
        variant: str = "modern",
        saved: int = 2**20,
        **choices,
    ) -> Path:
        """A finished run, healthy unless it is to have collapsed or not to be finite."""
        config = RunConfig(
            **{
                **TRAINING[variant],
                **PRESETS["quick"],
                **choices,
                "case": case,
                "variant": variant,
                "seed": seed,
                "data_sha256": "0" * 64,
            }
        )
        values = {**FLOORS, "frechet_distance": frechet}
        if failed:
            values |= {"classes_seen": 3.0, "total_variation": 0.7, "coverage": 0.1}
        evaluation = Evaluation(
            samples=5000,
            features="DigitNetwork",
            features_sha256="1" * 64,
            **{name: Score(value=values[name], floor=FLOORS[name]) for name in FLOORS},
        )
        run = RunFolder(self.path / folder / config.name)
        curves = [
            CurvePoint(
                iteration=iteration,
                discriminator_loss=0.4 + 0.01 * seed,
                generator_loss=0.3,
                real_logit_mean=0.7,
                real_logit_std=0.2,
                fake_logit_mean=0.3,
                fake_logit_std=0.2,
                real_slope=0.2 if variant != "modern" else None,
                fake_slope=0.2 if variant != "modern" else None,
                gradient_norm=1.0,
            )
            for iteration in range(config.iterations if finite else 7)
            if config.is_logged(iteration)
        ]
        run.path.mkdir(parents=True, exist_ok=True)
        run.write_curves(curves)
        run.write_samples(config.iterations - 1, torch.rand(32, 1, 28, 28))
        run.write_record(
            Record(
                preset="quick",
                config=config,
                config_hash=config.config_hash,
                code_hash="2" * 64,
                data_source="mnist",
                machine=Machine(
                    device="cpu",
                    processor="x86_64",
                    threads=1,
                    platform="Linux",
                    python="3.12",
                    torch="2.14.1",
                    gaslayers="0.1.0",
                ),
                outcome="finished" if finite else "non_finite",
                message="" if finite else "the loss is nan",
                iterations_done=config.iterations if finite else 7,
                seconds=1.0,
                processor_seconds=1.0,
                discriminator_parameters=1000,
                generator_parameters=1000,
                discriminator_forward_flops=1000,
                flops_convention="2 x MAC",
                memory_predicted=MemoryPrediction(
                    saved_bytes=saved // 2,
                    saved_bytes_plain=saved,
                    tensor_peak=saved,
                    tensor_peak_plain=2 * saved,
                ),
                evaluation=evaluation if finite else None,
                hypotheses_sha256=self.sha256 or None,
            )
        )
        return run.path

    def plant_all(self, folder: str, case: str, scores: list[float], **choices) -> None:
        """A run a score, by seed; a score that is not finite is of a run that is not."""
        for seed, score in enumerate(scores):
            finite = math.isfinite(score)
            self.plant(
                folder, case, seed, frechet=score if finite else 0.0, finite=finite, **choices
            )


@pytest.fixture
def sweep(tmp_path) -> Sweep:
    return Sweep(tmp_path / "sweep")
