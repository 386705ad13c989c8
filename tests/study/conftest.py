"""Runs of a second on one thread: few iterations, a tiny generator, the smallest discriminator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file

from gaslayers.study.config import RunConfig
from gaslayers.study.data import Digits, load_digits
from gaslayers.study.records import Record, RunFolder
from gaslayers.study.run import OnIteration, run
from gaslayers.study.training import Game

TINY: dict[str, Any] = {
    "case": "inception_8",
    "iterations": 6,
    "batch_size": 4,
    "generator_steps": 2,
    "generator_base_channels": 4,
    "log_every": 2,
    "sample_every": 3,
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def digits() -> Digits:
    return load_digits()


@pytest.fixture(scope="session")
def fabric() -> Fabric:
    return Fabric(accelerator="cpu", devices=1)


MakeConfig = Callable[..., RunConfig]


@pytest.fixture(scope="session")
def make_config(digits: Digits) -> MakeConfig:
    """A tiny configuration; keywords change it."""
    return lambda **choices: RunConfig(**{**TINY, "data_sha256": digits.sha256, **choices})


MakeGame = Callable[..., Game]


@pytest.fixture(scope="session")
def make_game(make_config: MakeConfig, digits: Digits, fabric: Fabric) -> MakeGame:
    """A game of a tiny configuration; keywords change it."""
    return lambda **choices: Game(make_config(**choices), digits, fabric)


def ignore(*_: object) -> None:
    """Watch nothing."""


Play = Callable[..., Record]


@pytest.fixture(scope="session")
def play(digits: Digits, fabric: Fabric) -> Play:
    """Run a configuration into a folder."""

    def play(config: RunConfig, path: Path, on_iteration: OnIteration = ignore) -> Record:
        folder = RunFolder(path)
        return run(config, folder, digits, fabric, preset="tiny", on_iteration=on_iteration)

    return play


# What a clock decides, and so differs from run to run.
TIMES = {"seconds", "processor_seconds"}


def read_results(path: Path) -> dict[str, Any]:
    """Everything in a run's folder that a run must reproduce; tensors as bytes and layout."""
    folder = RunFolder(path)
    tensors = load_file(folder.checkpoint_path)
    return {
        "record": folder.read_record().model_dump(exclude=TIMES),
        "curves": folder.curves_path.read_bytes(),
        "samples": {step: file.read_bytes() for step, file in folder.sample_paths().items()},
        "checkpoint": {
            name: (tensor.dtype, tensor.shape, tensor.numpy().tobytes())
            for name, tensor in tensors.items()
        },
    }


@pytest.fixture(scope="session")
def results() -> Callable[[Path], dict[str, Any]]:
    return read_results
