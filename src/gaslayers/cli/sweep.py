"""`gaslayers sweep`: many runs by a grid, by several workers."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from gaslayers.cli.options import fail
from gaslayers.cli.study import INTERRUPTED, Device, set_threads, start_fabric
from gaslayers.study.data import load_digits
from gaslayers.study.stopping import TERMINATED, Terminated
from gaslayers.study.sweep import (
    ClusterError,
    ForeignRunError,
    Planned,
    WorkerError,
    read_grid,
    run_on_cluster,
    run_workers,
    runs_per_card,
)
from gaslayers.study.sweep.cluster import LOCAL

_SECONDS_BETWEEN_LINES = 60.0


def sweep(
    grid: Annotated[Path, typer.Option(help="A TOML file of families of runs.")],
    out: Annotated[Path | None, typer.Option(help="[default: the folder of the grid]")] = None,
    family: Annotated[list[str] | None, typer.Option(help="Repeatable. [default: all]")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Repeatable. [default: all]")] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Runs at a time. [default: one per processor, or as many as fit on CUDA]"
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(help="Address of a Ray cluster; auto: the one here; local: start one."),
    ] = None,
    device: Annotated[Device, typer.Option(help="auto: CUDA, MPS, CPU in this order.")] = (
        Device.auto
    ),
    threads: Annotated[int | None, typer.Option(help="CPU threads, of all workers.")] = None,
    judge: Annotated[
        bool, typer.Option("--judge/--no-judge", help="Judge samples at the end of each run.")
    ] = True,
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
    if cluster is not None:
        _check_cluster(cluster, device, workers)
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
        if cluster is not None:
            run_on_cluster(
                planned,
                digits,
                address=cluster,
                accelerator=device.value,
                workers=workers,
                judged=judge,
                on_progress=_Lines(console),
            )
        else:
            kind = start_fabric(device).device.type
            run_workers(
                planned,
                digits,
                workers=workers or _count_workers(planned, kind),
                accelerator=kind,
                judged=judge,
                on_progress=_Lines(console),
            )
    except (KeyboardInterrupt, Terminated) as stop:
        console.print("Stopped. The same command goes on from the last checkpoints.")
        raise typer.Exit(TERMINATED if isinstance(stop, Terminated) else INTERRUPTED) from None
    except (OSError, ValueError, ClusterError, ForeignRunError, WorkerError) as error:
        fail("sweep", error)


def _check_cluster(cluster: str, device: Device, workers: int | None) -> None:
    if device is Device.mps:
        message = "a cluster runs on cpu or cuda, got mps."
        raise typer.BadParameter(message, param_hint="--device")
    if workers is not None and cluster != LOCAL:
        message = "goes with --cluster local: other clusters have resources of their own."
        raise typer.BadParameter(message, param_hint="--workers")


def _count_workers(planned: Sequence[Planned], kind: str) -> int:
    """How many runs go on this machine at a time."""
    processors = os.cpu_count() or 1
    if kind == "cpu":
        return processors
    if kind != "cuda":
        return 1
    cards = torch.cuda.device_count()
    capacity = min(torch.cuda.mem_get_info(card)[0] for card in range(cards))
    fitting = runs_per_card([one.config for one in planned], capacity)
    # A run keeps a processor busy, too.
    return max(cards, min(processors, cards * fitting))


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
