"""Bytes kept for backward, and time, of the lean paths beside their plain twins and their peers.

    python -m benchmarks.lean --quick --out lean.json

The ways of one piece of work are timed in turns, so that a busy machine slows all of them; each
turn gives one ratio to plain eager. Bytes are exact: what autograd keeps after the forward pass,
each storage once, parameters left out.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
import torch._functorch.config
import torch._inductor.config
import typer
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import benchmark
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.provenance import describe_run
from benchmarks.workloads import PLAIN, Way, Work, all_work
from gaslayers.study.records import write_atomically

MEBIBYTE = 2**20


class _Living(TorchDispatchMode):
    """Every storage that an operator returns, without keeping it alive."""

    def __init__(self) -> None:
        super().__init__()
        self.storages: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self.storages[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        return result

    def count(self, left_out: set[int]) -> int:
        """Bytes of the storages that are still there."""
        return sum(
            size
            for key, (reference, size) in self.storages.items()
            if key not in left_out and not reference.expired()
        )


def _with_code_of_its_own(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """A function that the compiler takes for no other, though networks of one class look alike."""

    def run(x: Tensor) -> Tensor:
        return network(x)

    run.__code__ = run.__code__.replace(co_name=f"run_{id(network)}")
    return run


class Runner:
    """One way to run one piece of work, ready to be called again and again."""

    def __init__(self, way: Way, work: Work, device: torch.device) -> None:
        self.way = way
        self.frozen = work.frozen
        network = way.network().to(device).to(memory_format=torch.channels_last)
        self.network = network.requires_grad_(not work.frozen)
        generator = torch.Generator().manual_seed(1)
        x = torch.rand(work.shape, generator=generator).to(device)
        self.x = x.to(memory_format=torch.channels_last).requires_grad_(work.frozen)
        self.module: Callable[[Tensor], Tensor] = self.network
        if way.budget is not None:
            self.module = torch.compile(_with_code_of_its_own(self.network), fullgraph=True)
        with self._budget():
            self.output_grad = torch.ones_like(self.module(self.x))
            self.run()

    @contextmanager
    def _budget(self) -> Iterator[None]:
        if self.way.budget is None:
            yield
            return
        # Without its caches, which do not ask for the budget that a graph was compiled under.
        with (
            torch._functorch.config.patch(
                activation_memory_budget=self.way.budget, enable_autograd_cache=False
            ),
            torch._inductor.config.patch(fx_graph_cache=False),
        ):
            yield

    def run(self) -> None:
        """One forward and one backward pass."""
        self.x.grad = None
        for parameter in self.network.parameters():
            parameter.grad = None
        self.module(self.x).backward(self.output_grad)

    def kept_bytes(self) -> int:
        """What autograd keeps after a forward pass."""
        tensors = [*self.network.parameters(), *self.network.buffers()]
        left_out = {tensor.untyped_storage()._cdata for tensor in tensors}
        if self.way.hides:
            with _Living() as living:
                output = self.module(self.x)
            kept = living.count(left_out) + self.x.untyped_storage().nbytes()
            del output
            return kept
        sizes: dict[int, int] = {}
        alive = []

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in left_out:
                sizes[storage._cdata] = storage.nbytes()
            alive.append(tensor)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            output = self.module(self.x)
        del output
        return sum(sizes.values())

    def gradients(self) -> list[Tensor]:
        """All gradients of one run."""
        self.run()
        found = [self.x.grad, *(parameter.grad for parameter in self.network.parameters())]
        return [gradient for gradient in found if gradient is not None]

    def peak_allocated(self) -> int | None:
        """The peak of one run on CUDA, parameters included."""
        if self.x.device.type != "cuda":
            return None
        torch.cuda.reset_peak_memory_stats(self.x.device)
        self.run()
        return torch.cuda.max_memory_allocated(self.x.device)


def measure_work(
    work: Work, *, repeats: int, threads: int, device: torch.device, names: set[str] | None
) -> dict[str, Any]:
    """Measure every installed way of one piece of work."""
    rows: dict[str, Any] = {}
    runners = {}
    # Once a piece of work: a reset would have the ways compiled so far compile anew, unbudgeted.
    torch._dynamo.reset()
    for name, way in work.ways.items():
        if names is not None and name not in names:
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
    expected = runners[PLAIN].gradients()
    for name, runner in runners.items():
        ratios = [own / plain for own, plain in zip(seconds[name], seconds[PLAIN], strict=True)]
        rows[name] = {
            "kept_bytes": runner.kept_bytes(),
            "median_seconds": statistics.median(seconds[name]),
            "time_ratio": statistics.median(ratios),
            "seconds": seconds[name],
            "peak_allocated": runner.peak_allocated(),
            "gradients": _compare(runner.gradients(), expected),
        }
    return {"shape": work.shape, "rows": {name: rows[name] for name in work.ways if name in rows}}


def _compare(found: list[Tensor], expected: list[Tensor]) -> str:
    if [tensor.shape for tensor in found] != [tensor.shape for tensor in expected]:
        return "other weights"
    if all(torch.equal(own, plain) for own, plain in zip(found, expected, strict=True)):
        return "bit-equal"
    # A bias in front of a batch norm has no gradient but rounding; the largest sets the scale.
    scale = max(float(plain.abs().max()) for plain in expected)
    largest = max(
        float((own - plain).abs().max()) / max(float(plain.abs().max()), 1e-3 * scale)
        for own, plain in zip(found, expected, strict=True)
    )
    return f"within {largest:.0e}"


def to_markdown(result: dict[str, Any]) -> str:
    """Every table, with what it was measured on; a row's winners stand in bold."""
    lines = []
    for title, work in result["work"].items():
        rows = work["rows"]
        measured = [row for row in rows.values() if "kept_bytes" in row]
        least = min(row["kept_bytes"] for row in measured)
        fastest = min(row["time_ratio"] for row in measured)
        lines += [
            f"### {title}",
            "",
            "| way | kept, MiB | of plain | time / plain | gradients |",
            "|---|---:|---:|---:|---|",
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
            lines.append(f"| {name} | {kept} | {share} | {ratio} | {row['gradients']} |")
        lines.append("")
    run = result["run"]
    lines.append(f"{run['summary']} {result['repeats']} turns, {result['threads']} threads.")
    return "\n".join(lines)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    quick: Annotated[bool, typer.Option(help="The main rows, in under five minutes.")] = False,
    only: Annotated[str, typer.Option(help="Titles that contain this.")] = "",
    way: Annotated[list[str] | None, typer.Option(help="Repeatable; all by default.")] = None,
    repeats: Annotated[int, typer.Option(min=3, help="Turns.")] = 21,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    out: Annotated[Path, typer.Option(help="The JSON file.")] = Path("lean.json"),
) -> None:
    """Measure, write JSON and print Markdown."""
    torch.set_num_threads(threads)
    torch._dynamo.config.recompile_limit = 64  # the ways share their code, not their guards
    works = {
        title: work
        for title, work in all_work().items()
        if only in title and (work.quick or not quick)
    }
    result = {"run": describe_run(), "repeats": repeats, "threads": threads, "work": {}}
    names = None if way is None else {PLAIN, *way}
    for title, work in works.items():
        print(title, flush=True)
        result["work"][title] = measure_work(
            work, repeats=repeats, threads=threads, device=torch.device(device), names=names
        )
        write_atomically(out, (json.dumps(result, indent=1) + "\n").encode())
    print(to_markdown(result))


if __name__ == "__main__":
    app()
