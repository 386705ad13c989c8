"""What `gaslayers.make_lean` keeps of networks that people train, beside plain and its peers.

    python -m benchmarks.saving --out saving.json

A D step is one forward and one backward pass with the weights' gradients; in a G step the network
is frozen and only the input gets one. Kept bytes and the peak of a step are those of live storages,
by a watcher that knows nothing of the engine: parameters, buffers, gradients of parameters and the
input are left out. The ways are timed in turns; each turn gives one ratio to plain.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from benchmarks.discriminators import CLIENTS, Client
from benchmarks.lean import MEBIBYTE
from benchmarks.live_bytes import LiveBytes
from benchmarks.provenance import describe_run, is_installed
from gaslayers import frozen, make_lean
from gaslayers.study.records import write_atomically

PLAIN = "plain, as its authors write it"
LEAN = "make_lean"
CONVOLUTIONS = 'make_lean, recompute="convolutions"'
CHECKPOINT = "torch checkpoint a stage"
MEMSAVE = "memsave_torch"
SEGMENTS = 4


def _lean(network: nn.Module) -> nn.Module:
    return make_lean(network)


def _lean_convolutions(network: nn.Module) -> nn.Module:
    return make_lean(network, recompute="convolutions")


class _Checkpointed(nn.Module):
    """Stages run again whole in the backward pass: those of a `Sequential`, or parts by name."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Any:
        if isinstance(self.network, nn.Sequential):
            return checkpoint_sequential(self.network, SEGMENTS, x, use_reentrant=False)
        return self.network(x)


def _checkpointed(network: nn.Module) -> nn.Module:
    """As its documentation says, a stage a checkpoint."""
    if not isinstance(network, nn.Sequential):
        for part in list(network.modules()):
            stages = part if isinstance(part, nn.Sequential) else ()
            for name, stage in getattr(stages, "named_children", dict)():
                if len(list(stage.modules())) > 3:
                    setattr(part, name, _Stage(stage))
        if not any(isinstance(part, _Stage) for part in network.modules()):
            raise NotImplementedError("has no row of stages")
    return _Checkpointed(network)


class _Stage(nn.Module):
    def __init__(self, stage: nn.Module) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, x: Tensor) -> Any:
        return checkpoint(self.stage, x, use_reentrant=False)


def _memsave(network: nn.Module) -> nn.Module:
    from memsave_torch.nn import convert_to_memory_saving

    return convert_to_memory_saving(network)


WAYS: dict[str, Callable[[nn.Module], nn.Module]] = {
    PLAIN: lambda network: network,
    LEAN: _lean,
    CONVOLUTIONS: _lean_convolutions,
    CHECKPOINT: _checkpointed,
    MEMSAVE: _memsave,
}


class Step:
    """One step of a network, run one way.

    Args:
        client: The network and its input.
        is_frozen: Whether it is a generator's step.
        way: How it is run.
    """

    def __init__(self, client: Client, way: str, *, is_frozen: bool) -> None:
        torch.manual_seed(0)
        network = client.build()
        self.is_frozen = is_frozen
        self.network = WAYS[way](network)
        self.x = torch.rand(*client.shape, generator=torch.Generator().manual_seed(1))
        self.x.requires_grad_(is_frozen)
        self.weights = [p for p in self.network.parameters() if p.requires_grad]

    @contextmanager
    def _frozen(self) -> Iterator[None]:
        if not self.is_frozen:
            yield
            return
        with frozen(self.network):
            yield

    def forward(self) -> Tensor:
        """A number that depends on everything that the network gives."""
        torch.manual_seed(2)
        with self._frozen():
            made = pytree.tree_leaves(self.network(self.x))
            return torch.stack([y.square().mean() for y in made]).sum()

    def run(self) -> list[Tensor]:
        """The gradients of a step."""
        wanted = [self.x] if self.is_frozen else self.weights
        loss = self.forward()
        return [g for g in torch.autograd.grad(loss, wanted, allow_unused=True) if g is not None]

    def bytes(self) -> tuple[int, int]:
        """Kept behind the forward pass, and at the highest in the step."""
        known = [*self.network.parameters(), *self.network.buffers(), self.x]
        self.run()
        gc.collect()
        with LiveBytes(known) as living:
            loss = self.forward()
            kept = living.now
            del loss
        gc.collect()
        with LiveBytes(known) as living, ExitStack() as hooks:
            for tensor in [self.x] if self.is_frozen else self.weights:
                tensor.grad = None
                hooks.callback(
                    tensor.register_post_accumulate_grad_hook(
                        lambda leaf: living.leave_out(leaf.grad)
                    ).remove
                )
            self.forward().backward()
        return kept, living.peak


def measure(title: str, *, is_frozen: bool, turns: int, threads: int) -> dict[str, Any]:
    """Every way of one step, in a process that does nothing else."""
    torch.set_num_threads(threads)
    client = CLIENTS[title]
    steps: dict[str, Step] = {}
    rows: dict[str, Any] = {}
    for name in WAYS:
        if name == MEMSAVE and not is_installed("memsave_torch"):
            rows[name] = {"missing": "memsave_torch"}
            continue
        try:
            step = Step(client, name, is_frozen=is_frozen)
            step.run()
        except Exception as error:  # noqa: BLE001  # a peer that does not run is a result
            rows[name] = {"failed": f"{type(error).__name__}: {str(error).splitlines()[0]:.80}"}
            continue
        steps[name] = step
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(turns):
        for name, step in steps.items():
            start = time.perf_counter()
            step.run()
            seconds[name].append(time.perf_counter() - start)
    expected = Step(client, PLAIN, is_frozen=is_frozen).run()
    for name in steps:
        fresh = Step(client, name, is_frozen=is_frozen)
        found = fresh.run()
        same = len(found) == len(expected) and all(map(torch.equal, found, expected))
        kept, peak = fresh.bytes()
        ratios = [own / plain for own, plain in zip(seconds[name], seconds[PLAIN], strict=True)]
        rows[name] = {
            "kept_bytes": kept,
            "peak_bytes": peak,
            "time_ratio": statistics.median(ratios),
            "median_seconds": statistics.median(seconds[name]),
            "gradients": "bit-equal" if same else "rounded otherwise",
        }
    return {"shape": client.shape, "rows": {name: rows[name] for name in WAYS}}


def to_markdown(result: dict[str, Any]) -> str:
    """A table a step, a row a way."""
    lines = []
    for title, work in result["work"].items():
        rows = work["rows"]
        plain = rows[PLAIN]
        lines += [
            f"### {title}",
            "",
            "| way | kept, MiB | of plain | peak of the step, MiB | of plain | time / plain "
            "| gradients |",
            "|---|---:|---:|---:|---:|---:|---|",
        ]
        for name, row in rows.items():
            if "kept_bytes" not in row:
                reason = row.get("failed") or f"{row['missing']} is not installed"
                lines.append(f"| {name} | - | - | - | - | - | {reason} |")
                continue
            cells = [
                f"{row['kept_bytes'] / MEBIBYTE:.2f}",
                f"{row['kept_bytes'] / plain['kept_bytes']:.2f}",
                f"{row['peak_bytes'] / MEBIBYTE:.1f}",
                f"{row['peak_bytes'] / plain['peak_bytes']:.2f}",
                f"{row['time_ratio']:.2f}",
                row["gradients"],
            ]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    run = result["run"]
    lines.append(f"{run['summary']} {result['turns']} turns, {result['threads']} threads.")
    return "\n".join(lines)


def pieces() -> dict[str, tuple[str, bool]]:
    """Every step, by its title: the network, and whether it is frozen."""
    found = {}
    for name, client in CLIENTS.items():
        if client.trained:
            found[f"{name}: D step"] = name, False
        if client.also_frozen:
            found[f"{name}: G step, frozen"] = name, True
    return found


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    only: Annotated[str, typer.Option(help="Titles that contain this.")] = "",
    turns: Annotated[int, typer.Option(min=3, help="Turns.")] = 11,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    out: Annotated[Path, typer.Option(help="The JSON file.")] = Path("saving.json"),
) -> None:
    """Measure, write JSON and print Markdown; go on where an interrupted run of the file ended."""
    run = describe_run()
    result: dict[str, Any] = {"run": run, "turns": turns, "threads": threads, "work": {}}
    if out.exists():
        result = json.loads(out.read_text(encoding="utf-8"))
    for title, (name, is_frozen) in pieces().items():
        if only not in title or title in result["work"]:
            continue
        print(title, flush=True)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
            options = {"is_frozen": is_frozen, "turns": turns, "threads": threads}
            measured = fresh.submit(measure, name, **options).result()
        result["work"][title] = measured | {"commit": run["commit"]}
        write_atomically(out, (json.dumps(result, indent=1) + "\n").encode())
    print(to_markdown(result))


if __name__ == "__main__":
    app()
