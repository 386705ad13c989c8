"""One piece of work, lean against plain, on a GPU: bytes kept, two peaks, and time.

    python -m benchmarks.gpu_table "inception 3 -> 64 at 64" --device cuda --out table.json

While memory is read, one way of the work is alone on the device: its network, input and gradients
are in the numbers, and no other's. The allocator's cache is emptied before, so that what it holds
afterwards is what this step needs. Times are those between two events of the device, in turns.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.lean import compare_gradients
from benchmarks.runner import Runner
from benchmarks.workloads import LEAN, PLAIN, RECOMPUTE, Way, Work, all_work
from gaslayers import measure_peak
from gaslayers.study.records import write_atomically

WAYS = (PLAIN, LEAN, RECOMPUTE)
RUNS_BEFORE = 3
TINY_BATCH = 2


def read_memory(way: Way, work: Work, device: torch.device) -> dict[str, Any]:
    """Bytes that autograd keeps, and both peaks of one run, with nothing else on the device."""
    runner = Runner(way, work, device)
    for _ in range(RUNS_BEFORE):
        runner.run()
    kept = runner.kept_bytes()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    reading = measure_peak(runner.run, device=device, process=False)
    return {
        "kept_bytes": kept,
        "allocated": reading.allocated,
        "allocated_before": reading.before,
        "reserved": reading.reserved,
    }


def time_on(device: torch.device) -> Callable[[Callable[[], None]], float]:
    """What takes the seconds of one run: on CUDA, between two events in its queue."""
    if device.type != "cuda":

        def by_clock(run: Callable[[], None]) -> float:
            start = time.perf_counter()
            run()
            return time.perf_counter() - start

        return by_clock

    def by_events(run: Callable[[], None]) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)  # nothing of the run before is still in the queue
        start.record()
        run()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1000

    return by_events


def measure(title: str, *, turns: int, device: torch.device, tiny: bool) -> dict[str, Any]:
    """Measure the ways of one piece of work: the memory of each alone, then times in turns."""
    work = all_work()[title]
    if tiny:
        work = dataclasses.replace(work, shape=(TINY_BATCH, *work.shape[1:]))
    ways = {name: work.ways[name] for name in WAYS if name in work.ways}
    memory = {}
    for name, way in ways.items():
        memory[name] = read_memory(way, work, device)
        gc.collect()
    runners = {name: Runner(way, work, device) for name, way in ways.items()}
    for _ in range(RUNS_BEFORE):
        for runner in runners.values():
            runner.run()
    seconds_of = time_on(device)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(turns):
        for name, runner in runners.items():
            seconds[name].append(seconds_of(runner.run))
    rows = {}
    for name, runner in runners.items():
        ratios = [own / plain for own, plain in zip(seconds[name], seconds[PLAIN], strict=True)]
        rows[name] = {
            **memory[name],
            "median_seconds": statistics.median(seconds[name]),
            "time_ratio": statistics.median(ratios),
            "seconds": seconds[name],
            "gradients": compare_gradients(runner, runners[PLAIN]),
        }
    return {"shape": work.shape, "turns": turns, "rows": rows}


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    title: Annotated[str, typer.Argument(help="One of benchmarks/workloads.py.")],
    turns: Annotated[int, typer.Option(min=3, help="Each times every way once.")] = 51,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cuda",
    tiny: Annotated[bool, typer.Option(help="A small batch.")] = False,
    out: Annotated[Path, typer.Option(help="The JSON file.")] = Path("gpu_table.json"),
) -> None:
    """Measure one piece of work."""
    result = measure(title, turns=turns, device=torch.device(device), tiny=tiny)
    write_atomically(out, (json.dumps(result, indent=1) + "\n").encode())


if __name__ == "__main__":
    app()
