"""How much faster one iteration of the study is than the straightforward port in `port.py`.

    python -m benchmarks.iteration --out benchmarks/iteration.json

Both sides start from the same weights and draw the same batches and noise; their losses are
compared before anything is timed. They are timed in turns, so that a busy machine slows both, and
each pair gives one ratio. The result goes to the terminal as Markdown and to a JSON file.
"""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from lightning_fabric import Fabric
from torch.utils import benchmark

from benchmarks.port import Port
from benchmarks.provenance import describe_run, system_load
from gaslayers.study.config import RunConfig
from gaslayers.study.data import load_digits
from gaslayers.study.records import write_atomically
from gaslayers.study.training import Game

TOLERANCE = 1e-4  # relative, of losses: float32 rounding of two orders of summation
COMPARED_ITERATIONS = 3
SIDES = ("gaslayers", "straightforward port")


def make_sides(config: RunConfig) -> tuple[Game, Port]:
    """A game and its port with the same weights."""
    game = Game(config, load_digits(), Fabric(accelerator="cpu", devices=1))
    return game, Port(game)


def compare_losses(config: RunConfig, iterations: int = COMPARED_ITERATIONS) -> float:
    """Play both sides and return the largest relative difference between their losses.

    Raises:
        ArithmeticError: It is larger than rounding explains, so times would not be comparable.
    """
    game, port = make_sides(config)
    losses: list[float] = []
    for criterion in (game.discriminator_loss, game.generator_loss):
        criterion.register_forward_hook(lambda _, __, loss: losses.append(loss.item()))
    expected: list[float] = []
    for iteration in range(iterations):
        game.iterate(iteration)
        expected += port.iterate(iteration)
    pairs = zip(losses, expected, strict=True)
    difference = max(abs(ours - theirs) / abs(theirs) for ours, theirs in pairs)
    if not difference <= TOLERANCE:
        raise ArithmeticError(f"losses differ by {difference:.1e} of their size")
    return difference


def time_in_turns(config: RunConfig, *, repeats: int, threads: int) -> list[list[float]]:
    """Seconds of single iterations, one list a side, taken in turns."""
    timers = [_make_timer(side.iterate, threads) for side in make_sides(config)]
    turns = [[timer.timeit(1).median for timer in timers] for _ in range(repeats)]
    return [list(times) for times in zip(*turns, strict=True)]


def _make_timer(iterate: Callable[[int], object], threads: int) -> benchmark.Timer:
    iterations = itertools.count()
    return benchmark.Timer(
        "iterate(next(iterations))",
        globals={"iterate": iterate, "iterations": iterations},
        num_threads=threads,
    )


def measure(config: RunConfig, *, repeats: int, threads: int) -> dict[str, Any]:
    """Compare the losses, time both sides, and say on what."""
    torch.set_num_threads(threads)
    difference = compare_losses(config)
    described = describe_run()
    times = time_in_turns(config, repeats=repeats, threads=threads)
    ratios = [theirs / ours for ours, theirs in zip(*times, strict=True)]
    return {
        "benchmark": "one training iteration",
        "config": config.model_dump(),
        "threads": threads,
        "repeats": repeats,
        "largest_relative_loss_difference": difference,
        "seconds": {
            side: {"median": statistics.median(taken), "all": taken}
            for side, taken in zip(SIDES, times, strict=True)
        },
        "speedup": {
            "median": statistics.median(ratios),
            "smallest": min(ratios),
            "largest": max(ratios),
        },
        "load_after": system_load(),
        **described,
    }


def to_markdown(result: dict[str, Any]) -> str:
    """The result as a table with what it was measured on."""
    config, speedup = result["config"], result["speedup"]
    rows = [
        f"| {side} | {1000 * seconds['median']:.1f} | {1000 * min(seconds['all']):.1f} "
        f"| {1000 * max(seconds['all']):.1f} |"
        for side, seconds in result["seconds"].items()
    ]
    return "\n".join(
        [
            f"One iteration of `{config['case']}`, `{config['variant']}`, batch "
            f"{config['batch_size']}, {config['generator_steps']} G steps, generator of "
            f"{config['generator_base_channels']} base channels, {result['threads']} threads, "
            f"{result['repeats']} turns.",
            "",
            "| side | median, ms | fastest, ms | slowest, ms |",
            "|---|---:|---:|---:|",
            *rows,
            "",
            f"**{speedup['median']:.2f} times faster** (median of the turns' ratios; "
            f"{speedup['smallest']:.2f} to {speedup['largest']:.2f}). Losses agree to "
            f"{result['largest_relative_loss_difference']:.0e} of their size.",
            "",
            result["summary"],
        ]
    )


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    repeats: Annotated[int, typer.Option(min=5, help="Turns; each times both sides once.")] = 9,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    base_channels: Annotated[int, typer.Option(help="Of the generator; 128 in 2018.")] = 128,
    batch_size: Annotated[int, typer.Option(help="32 in 2018.")] = 32,
    out: Annotated[Path, typer.Option(help="The JSON file.")] = Path("iteration.json"),
) -> None:
    """Measure one as-coded iteration of `original` against a straightforward port of it."""
    config = RunConfig(
        case="original",
        batch_size=batch_size,
        generator_base_channels=base_channels,
        data_sha256=load_digits().sha256,
    )
    result = measure(config, repeats=repeats, threads=threads)
    write_atomically(out, (json.dumps(result, indent=2) + "\n").encode())
    print(to_markdown(result))


if __name__ == "__main__":
    app()
