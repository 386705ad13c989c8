"""What a person sees while the runs run."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from gaslayers.study.config import RunConfig
from gaslayers.study.records import CurvePoint
from gaslayers.study.run import OnIteration
from gaslayers.study.sweep.runs import OnRun

SECONDS_BETWEEN_LINES = 10.0


@contextlib.contextmanager
def show_progress(console: Console) -> Iterator[OnRun]:
    """Show a bar a run on a terminal, and a plain line now and then elsewhere."""
    if not console.is_terminal:
        yield lambda config: _make_line_writer(console, config)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[losses]}"),
    )
    with Progress(*columns, console=console) as progress:
        yield lambda config: _make_bar(progress, config)


def _describe_losses(point: CurvePoint) -> str:
    return f"L_D {point.discriminator_loss:.2f}  L_G {point.generator_loss:.2f}"


def _make_bar(progress: Progress, config: RunConfig) -> OnIteration:
    task = progress.add_task(config.name, total=config.iterations, losses="")

    def on_iteration(done: int, point: CurvePoint | None) -> None:
        progress.update(task, completed=done)
        if point is not None:
            progress.update(task, losses=_describe_losses(point))

    return on_iteration


def _make_line_writer(console: Console, config: RunConfig) -> OnIteration:
    started = last_line = time.monotonic()
    first: int | None = None

    def on_iteration(done: int, point: CurvePoint | None) -> None:
        nonlocal first, last_line
        # A resumed run reports where it starts from; the time left counts only what ran here.
        first = done - (point is not None) if first is None else first
        now = time.monotonic()
        if point is None or (
            done < config.iterations and now - last_line < SECONDS_BETWEEN_LINES and done > 1
        ):
            return
        last_line = now
        left = (now - started) / max(1, done - first) * (config.iterations - done)
        console.print(
            f"{config.name} {done}/{config.iterations}  {_describe_losses(point)}  "
            f"{left:.0f} s left",
            highlight=False,
            soft_wrap=True,
        )

    return on_iteration
