"""`gaslayers sweep`: many runs by a grid, by several workers."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from gaslayers.cli.options import fail
from gaslayers.cli.study import INTERRUPTED, Device, set_threads, start_fabric
from gaslayers.study.checkpoint import CheckpointError
from gaslayers.study.data import load_digits
from gaslayers.study.stopping import TERMINATED, Terminated
from gaslayers.study.sweep import ForeignRunError, WorkerError, read_grid, run_workers

_SECONDS_BETWEEN_LINES = 60.0


def sweep(
    grid: Annotated[Path, typer.Option(help="A TOML file of families of runs.")],
    out: Annotated[Path | None, typer.Option(help="[default: the folder of the grid]")] = None,
    family: Annotated[list[str] | None, typer.Option(help="Repeatable. [default: all]")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Repeatable. [default: all]")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Runs at a time. [default: one per processor on CPU, else 1]")
    ] = None,
    device: Annotated[Device, typer.Option(help="auto: CUDA, MPS, CPU in this order.")] = (
        Device.auto
    ),
    threads: Annotated[int | None, typer.Option(help="CPU threads, of all workers.")] = None,
    data: Annotated[Path | None, typer.Option(help="A torchvision MNIST root.")] = None,
    download: Annotated[bool, typer.Option(help="Fetch the full MNIST.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="List the runs and end.")] = False,
) -> None:
    """Make every run of a grid that is not made yet, and judge its samples.

    The same command goes on where a stopped or killed one was. Several machines may share the
    folder: a run belongs to the worker that holds its lock.
    """
    console = Console()
    if threads is not None:
        set_threads(threads)
    if workers is not None and workers < 1:
        message = f"Input should be greater than or equal to 1, got {workers}."
        raise typer.BadParameter(message, param_hint="--workers")
    fabric = start_fabric(device)
    is_cpu = fabric.device.type == "cpu"
    try:
        digits = load_digits(data, download=download)
        found = read_grid(grid)
        folder = grid.parent if out is None else out
        planned = found.plan(
            folder, data_sha256=digits.sha256, families=family or (), seeds=seed or ()
        )
        if plan:
            for one in planned:
                console.print(str(one.run_folder.path), highlight=False, soft_wrap=True)
            return
        found.put_into(folder)
        run_workers(
            planned,
            digits,
            workers=workers or ((os.cpu_count() or 1) if is_cpu else 1),
            accelerator=fabric.device.type,
            on_progress=_Lines(console),
        )
    except (KeyboardInterrupt, Terminated) as stop:
        console.print("Stopped. The same command goes on from the last checkpoints.")
        raise typer.Exit(TERMINATED if isinstance(stop, Terminated) else INTERRUPTED) from None
    except (OSError, ValueError, ForeignRunError, CheckpointError, WorkerError) as error:
        fail("sweep", error)


class _Lines:
    """A line whenever a run is finished, and once a minute, with the time left.

    Args:
        console: Where they are printed.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = self._last_line = time.monotonic()
        self._first: int | None = None
        self._done = -1

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done == self._done and now - self._last_line < _SECONDS_BETWEEN_LINES:
            return
        # What was there before tells nothing of how long a run takes.
        self._first = done if self._first is None else self._first
        made = done - self._first
        left = "unknown"
        if made:
            left = f"{(now - self._started) / made * (total - done) / 60:.0f} min"
        self._done, self._last_line = done, now
        self._console.print(f"{done}/{total} runs  left: {left}", highlight=False)
