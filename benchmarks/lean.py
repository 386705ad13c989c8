"""Bytes kept for backward, and time, of the lean paths beside their plain twins and their peers.

    python -m benchmarks.lean --quick --out lean.json

The ways of one piece of work are timed in turns, so that a busy machine slows all of them; each
turn gives one ratio to plain eager. Each piece has a process of its own, for its times depend on
what the memory allocator has served before. Bytes are exact: what autograd keeps after the forward
pass, each storage once, parameters left out.
"""

from __future__ import annotations

import json
import multiprocessing
import statistics
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor
from torch.utils import benchmark

from benchmarks.provenance import describe_run
from benchmarks.runner import Runner, process_bytes
from benchmarks.workloads import PLAIN, RIVAL, Work, all_work
from gaslayers.study.records import write_atomically

MEBIBYTE = 2**20


def measure_work(
    title: str, *, repeats: int, threads: int, device: torch.device, names: set[str]
) -> dict[str, Any]:
    """Measure every installed way of one piece of work, in a process that does nothing else."""
    torch.set_num_threads(threads)
    torch._dynamo.config.recompile_limit = 64  # the ways share their code, not their guards
    work = all_work()[title]
    rows: dict[str, Any] = {}
    runners = {}
    for name, way in work.ways.items():
        if name not in names:
            continue
        if not way.is_installed:
            rows[name] = {"missing": way.needs}
            continue
        try:
            runners[name] = Runner(way, work, device)
        except (RuntimeError, torch._dynamo.exc.TorchDynamoException) as error:
            rows[name] = {"failed": str(error).splitlines()[0]}
    timers = {
        name: benchmark.Timer("run()", globals={"run": runner.run}, num_threads=threads)
        for name, runner in runners.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(repeats):
        for name, timer in timers.items():
            seconds[name].append(timer.timeit(1).median)
    for name, runner in runners.items():
        ratios = [own / plain for own, plain in zip(seconds[name], seconds[PLAIN], strict=True)]
        rows[name] = {
            "kept_bytes": runner.kept_bytes(),
            "median_seconds": statistics.median(seconds[name]),
            "time_ratio": statistics.median(ratios),
            "seconds": seconds[name],
            "peak_allocated": runner.peak_allocated(),
            "process_bytes": process_bytes(title, name)
            if _asks_process(work, name, device)
            else None,
            "gradients": compare_gradients(runner, runners[PLAIN]),
        }
    return {"shape": work.shape, "rows": {name: rows[name] for name in work.ways if name in rows}}


def _conditions(result: dict[str, Any]) -> list[Any]:
    """What has to be the same in all parts of a record."""
    machine = {key: value for key, value in result["run"]["machine"].items() if key != "load"}
    return [machine, result["run"]["versions"], result["repeats"], result["threads"]]


def _asks_process(work: Work, name: str, device: torch.device) -> bool:
    """The compiler itself would take the most of a fresh process."""
    return work.in_process and device.type == "cpu" and work.ways[name].budget is None


def compare_gradients(runner: Runner, plain: Runner) -> str:
    """How far gradients are from plain eager's, in float64 where that can be asked."""
    found, expected = runner.gradients(), plain.gradients()
    if [tensor.shape for tensor in found] != [tensor.shape for tensor in expected]:
        return "other weights"
    if all(torch.equal(own, other) for own, other in zip(found, expected, strict=True)):
        return "bit-equal"
    # In float32 a rounding may move a maximum to another pixel, and all that follows with it.
    exact, exact_plain = runner.gradients_in_double(), plain.gradients_in_double()
    if exact is None or exact_plain is None:
        return f"within {_largest_share(found, expected):.0e}"
    return f"within {_largest_share(exact, exact_plain):.0e} in float64"


def _largest_share(found: list[Tensor], expected: list[Tensor]) -> float:
    # A bias in front of a batch norm has no gradient but rounding; the largest sets the scale.
    scale = max(float(plain.abs().max()) for plain in expected)
    return max(
        float((own - plain).abs().max()) / max(float(plain.abs().max()), 1e-3 * scale)
        for own, plain in zip(found, expected, strict=True)
    )


def to_markdown(result: dict[str, Any]) -> str:
    """Every table, with what it was measured on; a row's winners stand in bold."""
    lines = []
    for title, work in result["work"].items():
        rows = work["rows"]
        measured = [row for row in rows.values() if "kept_bytes" in row]
        in_process = any(row.get("process_bytes") for row in measured)
        extra = " process, MiB |" if in_process else ""
        least = min(row["kept_bytes"] for row in measured)
        fastest = min(row["time_ratio"] for row in measured)
        lines += [
            f"### {title}",
            "",
            "| way | kept, MiB | of plain | time / plain | gradients |" + extra,
            "|---|---:|---:|---:|---|" + ("---:|" if extra else ""),
        ]
        for name, row in rows.items():
            if "kept_bytes" not in row:
                reason = row.get("failed") or f"{row['missing']} is not installed"
                lines.append(f"| {name} | - | - | - | {reason} |")
                continue
            kept = f"{row['kept_bytes'] / MEBIBYTE:.2f}"
            ratio = f"{row['time_ratio']:.2f}"
            share = f"{row['kept_bytes'] / rows[PLAIN]['kept_bytes']:.2f}"
            kept = f"**{kept}**" if row["kept_bytes"] == least else kept
            ratio = f"**{ratio}**" if row["time_ratio"] == fastest else ratio
            line = f"| {name} | {kept} | {share} | {ratio} | {row['gradients']} |"
            if in_process:
                rise = row["process_bytes"]
                line += " - |" if rise is None else f" {rise / MEBIBYTE:.0f} |"
            lines.append(line)
        lines.append("")
    run = result["run"]
    lines.append(f"{run['summary']} {result['repeats']} turns, {result['threads']} threads.")
    return "\n".join(lines)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    quick: Annotated[
        bool, typer.Option(help="The main rows, of the compiler its tightest budget, in minutes.")
    ] = False,
    eager: Annotated[bool, typer.Option(help="Leave out the compiler.")] = False,
    only: Annotated[str, typer.Option(help="Titles that contain this.")] = "",
    way: Annotated[list[str] | None, typer.Option(help="Repeatable; all by default.")] = None,
    repeats: Annotated[int, typer.Option(min=3, help="Turns.")] = 21,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    out: Annotated[Path, typer.Option(help="The JSON file.")] = Path("lean.json"),
) -> None:
    """Measure, write JSON and print Markdown; go on where an interrupted run of the file ended."""
    works = {
        title: work
        for title, work in all_work().items()
        if only in title and (work.quick or not quick)
    }
    run = describe_run()
    result = {"run": run, "repeats": repeats, "threads": threads, "work": {}}
    if out.exists():
        found = json.loads(out.read_text(encoding="utf-8"))
        if _conditions(found) != _conditions(result):
            raise typer.BadParameter(f"{out} was measured under other conditions; name another.")
        result = found
    for title, work in works.items():
        if title in result["work"]:
            continue
        print(title, flush=True)
        names = set(work.ways) & {PLAIN, *way} if way else set(work.ways)
        compiled = {name for name in names if work.ways[name].budget is not None}
        if eager:
            names -= compiled
        elif quick and not way:
            names -= compiled - {RIVAL}
        measure = partial(
            measure_work,
            title,
            repeats=repeats,
            threads=threads,
            device=torch.device(device),
            names=names,
        )
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
            measured = fresh.submit(measure).result()
        result["work"][title] = measured | {"commit": run["commit"]}
        write_atomically(out, (json.dumps(result, indent=1) + "\n").encode())
    print(to_markdown(result))


if __name__ == "__main__":
    app()
