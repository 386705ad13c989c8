"""Sweeps of runs of a few seconds, and the process that makes a run at a moment."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from gaslayers.study.records import RunFolder
from gaslayers.study.sweep import Planned, finish_all, read_grid
from tests.study.conftest import TINY, ignore, read_results

PATIENCE = 180.0
"""Seconds until a test gives up on another process, which may share its processor with many."""

GRID = """
[families.tiny]
cases = ["{case}"]
variants = ["as_coded"]
seeds = 2
"""
LONG = {"iterations": 120, "sample_every": 5, "log_every": 10}
"""Of a run that something can be done to while it trains."""


@pytest.fixture(scope="session")
def grid_path(tmp_path_factory):
    """A grid of two such runs."""
    path = tmp_path_factory.mktemp("grid") / "grid.toml"
    options = {**TINY, **LONG}
    lines = [f"options.{name} = {value}" for name, value in options.items() if name != "case"]
    path.write_text(GRID.format(case=TINY["case"]) + "\n".join(lines) + "\n")
    return path


@pytest.fixture
def plan(grid_path, digits):
    """The runs of the grid, in a folder."""
    return lambda out: read_grid(grid_path).plan(out, data_sha256=digits.sha256)


@pytest.fixture(scope="session")
def undisturbed(grid_path, digits, fabric, tmp_path_factory):
    """What is in the folders of the two runs when nothing happens to them."""
    out = tmp_path_factory.mktemp("undisturbed")
    planned = read_grid(grid_path).plan(out, data_sha256=digits.sha256)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    finish_all(planned, digits, fabric, on_run=lambda _: ignore)
    torch.set_num_threads(threads)
    return [read_results(one.run_folder.path) for one in planned]


def read_all(planned: list[Planned]):
    return [read_results(one.run_folder.path) for one in planned]


def is_training(folder: RunFolder) -> bool:
    """Whether the run has come some way and is not finished."""
    return len(folder.sample_paths()) >= 3 and not folder.record_path.exists()


def holder_of(folder: RunFolder) -> int | None:
    """The process that holds the run's lock, as the kernel says."""
    if not folder.lock_path.exists():
        return None
    inode = folder.lock_path.stat().st_ino
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if "->" not in fields and fields[5].rpartition(":")[2] == str(inode):
            return int(fields[4])
    return None


def wait_for(what, *, every=0.05):
    """Wait until something is there, and return it."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        found = what()
        if found:
            return found
        time.sleep(every)
    raise TimeoutError(f"waited {PATIENCE} s for nothing")


def wait_for_a_training_worker(planned: list[Planned]) -> tuple[RunFolder, int]:
    """A run that trains, and the process that makes it."""

    def find():
        for one in planned:
            holder = holder_of(one.run_folder) if is_training(one.run_folder) else None
            if holder:
                return one.run_folder, holder
        return None

    return wait_for(find)


def start_sweep(*options: object) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "gaslayers.cli", "sweep", "--no-judge", "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, *map(str, options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
