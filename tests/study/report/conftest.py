"""Synthetic runs, written through the folder's own interface: shapes of curves, no training."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text

from gaslayers.models import CASES
from gaslayers.study.config import PRESETS, SAMPLE_COUNT, TRAINING, RunConfig
from gaslayers.study.records import CurvePoint, Machine, MemoryReading, Record, RunFolder
from gaslayers.study.report import write_report

MACHINE = Machine(
    device="synthetic device",
    processor="synthetic <processor> | of two parts",
    threads=2,
    platform="Linux",
    python="3.12.0",
    torch="2.14.1",
    gaslayers="0.1.0",
)
MEMORY = MemoryReading(peak_allocated=3 * 2**20, peak_reserved=22 * 2**20, process=None)

SYNTHETIC = "synthetic shapes"
WriteRun = Callable[..., Record]


class Reported(NamedTuple):
    """A study's folder, what its report returned, and what it left there."""

    out: Path
    paths: list[Path]
    created: set[Path]


def synthetic_point(config: RunConfig, iteration: int) -> CurvePoint:
    """A reading near an undecided discriminator, which differs by case, seed and iteration."""
    size = config.batch_size if config.loss_reduction == "sum" else 1
    wave = 0.05 * math.sin(0.3 * iteration + config.seed) * (1 + CASES.index(config.case))
    return CurvePoint(
        iteration=iteration,
        discriminator_loss=size * (0.25 - 0.5 * wave),
        generator_loss=size * (0.125 + wave),
        real_logit_mean=0.25 + wave,
        real_logit_std=0.5,
        fake_logit_mean=-0.25 - wave,
        fake_logit_std=0.125,
    )


def synthetic_samples(config: RunConfig, iteration: int) -> torch.Tensor:
    """Discs that grow with the iterations; each case at another grey."""
    rows = torch.arange(28.0) - 13.5
    distance = (rows**2 + rows[:, None] ** 2).sqrt()
    radius = 3 + 10 * iteration / config.iterations
    grey = (1 + CASES.index(config.case)) / len(CASES)
    return (grey * (distance < radius)).expand(SAMPLE_COUNT, 1, 28, 28)


@pytest.fixture
def texts_of() -> Callable[[Figure], list[str]]:
    """All that is written on a figure."""
    return lambda figure: [text.get_text() for text in figure.findobj(Text) if text.get_text()]


@pytest.fixture
def memory() -> MemoryReading:
    return MEMORY


def make_run(
    out: Path,
    case: str,
    *,
    preset: str = "quick",
    variant: str = "as_coded",
    non_finite_after: int | None = None,
    memory: MemoryReading | None = None,
    **choices: Any,
) -> Record:
    """Write one run's folder; further keywords change its configuration."""
    chosen = {**TRAINING[variant], **PRESETS[preset], **choices}
    config = RunConfig(case=case, variant=variant, data_sha256="0" * 64, **chosen)
    done = config.iterations if non_finite_after is None else non_finite_after
    folder = RunFolder(out / config.name)
    iterations = range(done)
    folder.write_curves([synthetic_point(config, i) for i in iterations if config.is_logged(i)])
    for iteration in filter(config.is_sampled, iterations):
        folder.write_samples(iteration, synthetic_samples(config, iteration))
    number = 1 + CASES.index(case)
    record = Record(
        preset=preset,
        config=config,
        config_hash=config.config_hash,
        code_hash=f"{number:064x}"[::-1],
        data_source=SYNTHETIC,
        machine=MACHINE,
        outcome="finished" if non_finite_after is None else "non_finite",
        message="" if non_finite_after is None else f"after {done} iterations the loss is nan",
        iterations_done=done,
        seconds=10.0 * number + 0.25,
        processor_seconds=15.0 * number + 0.75,
        discriminator_parameters=12345 * number,
        generator_parameters=1000,
        discriminator_forward_flops=1_234_567_890 * number,
        flops_convention="2 x MACs + elementwise",
        memory=memory,
    )
    folder.write_record(record)
    return record


@pytest.fixture
def write_run(tmp_path: Path) -> WriteRun:
    """Write one run's folder under tmp_path."""
    return functools.partial(make_run, tmp_path)


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    """A study of four cases, one unfinished and one missing, with its report; not to be changed."""
    out = tmp_path_factory.mktemp("study")
    for case in CASES[:4]:
        make_run(out, case, iterations=3, log_every=1, sample_every=2)
    (out / "inception_8-as_coded-seed0").mkdir()
    before = set(out.iterdir())
    return Reported(out, write_report(out), set(out.iterdir()) - before)
