"""What `gaslayers.make_lean` keeps of networks that people train, beside plain and its peers.

    python -m benchmarks.saving --out saving.json

A D step is one forward and one backward pass with the weights' gradients; in a G step the network
is frozen and only the input gets one. An R1 step differentiates the squared gradient of the input
by the weights, and there the engine is a context around the penalty, too. Kept bytes and the peak
of a step are those of live storages, by a watcher that knows nothing of the engine: parameters,
buffers, gradients of parameters and the input are left out. Of compiled code it sees nothing: there
what autograd saves is counted by hooks. The ways are timed in turns; each turn
gives one ratio to plain.
"""

from __future__ import annotations

import enum
import gc
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import torch._functorch.config
import torch._inductor.config
import typer
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from benchmarks.discriminators import CLIENTS, Client
from benchmarks.lean import MEBIBYTE
from benchmarks.live_bytes import LiveBytes
from benchmarks.provenance import describe_run, is_installed
from benchmarks.runner import with_code_of_its_own
from gaslayers import frozen, lean_saving, make_lean
from gaslayers.study.records import write_atomically

PLAIN = "plain, as its authors write it"
LEAN = "make_lean"
CONVOLUTIONS = 'make_lean, recompute="convolutions"'
CHECKPOINT = "torch checkpoint a stage"
MEMSAVE = "memsave_torch"
MEMCNN = "memcnn"
COMPILE = "torch.compile"
BUDGET = "torch.compile, budget 0.2"
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


def _memcnn(network: nn.Module) -> nn.Module:
    from memcnn import InvertibleModuleWrapper

    return InvertibleModuleWrapper(network)


class _Compiled(nn.Module):
    """Compiled at its first call, without the caches, which do not ask for the budget."""

    def __init__(self, network: nn.Module, budget: float) -> None:
        super().__init__()
        self.network, self._budget = network, budget
        self._compiled = torch.compile(with_code_of_its_own(network))

    def forward(self, x: Tensor) -> Any:
        with (
            torch._functorch.config.patch(
                activation_memory_budget=self._budget, enable_autograd_cache=False
            ),
            torch._inductor.config.patch(fx_graph_cache=False),
        ):
            return self._compiled(x)


WAYS: dict[str, Callable[[nn.Module], nn.Module]] = {
    PLAIN: lambda network: network,
    LEAN: _lean,
    CONVOLUTIONS: _lean_convolutions,
    CHECKPOINT: _checkpointed,
    MEMSAVE: _memsave,
    MEMCNN: _memcnn,
    COMPILE: partial(_Compiled, budget=1.0),
    BUDGET: partial(_Compiled, budget=0.2),
}

_PACKAGES = {MEMSAVE: "memsave_torch", MEMCNN: "memcnn"}
"""What ways need besides torch."""

_COMPILED = (COMPILE, BUDGET)
"""Their code makes tensors that no watcher of operators sees: what autograd saves is counted, and
no peak. They take long to build, and run the steps of `_COMPILED_KINDS` alone."""


_CONTEXTS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    LEAN: lean_saving,
    CONVOLUTIONS: partial(lean_saving, recompute="convolutions"),
}
"""Around a whole step, its penalty included."""


class Kind(enum.Enum):
    """The kinds of steps."""

    D = "D step"
    G = "G step, frozen"
    R1 = "R1 step"


_COMPILED_KINDS = (Kind.D, Kind.R1)
_TOO_LONG_TO_COMPILE = ("resnet50", "densenet121")


class Step:
    """One step of a network, run one way.

    Args:
        client: The network and its input.
        way: How it is run.
        kind: Which step.
    """

    def __init__(self, client: Client, way: str, kind: Kind) -> None:
        torch.manual_seed(0)
        network = client.build()
        self.kind = kind
        self._saves: Callable[[], AbstractContextManager[None]] = nullcontext
        if kind is Kind.R1 and way in _CONTEXTS:
            self.network, self._saves = network, _CONTEXTS[way]
        else:
            self.network = WAYS[way](network)
        self.x = torch.rand(*client.shape, generator=torch.Generator().manual_seed(1))
        self.x.requires_grad_(kind is not Kind.D)
        self.weights = [p for p in self.network.parameters() if p.requires_grad]

    def forward(self) -> Tensor:
        """A number that depends on everything that the network gives."""
        torch.manual_seed(2)
        freezing = frozen(self.network) if self.kind is Kind.G else nullcontext()
        with freezing, self._saves():
            made = pytree.tree_leaves(self.network(self.x))
            if self.kind is not Kind.R1:
                return torch.stack([y.square().mean() for y in made]).sum()
            scores = torch.stack([y.sum() for y in made]).sum()
            (grad,) = torch.autograd.grad(scores, self.x, create_graph=True)
            return grad.square().flatten(1).sum(1).mean()

    def run(self) -> list[Tensor]:
        """The gradients of a step."""
        wanted = [self.x] if self.kind is Kind.G else self.weights
        loss = self.forward()
        return [g for g in torch.autograd.grad(loss, wanted, allow_unused=True) if g is not None]

    def saved_bytes(self) -> int:
        """What autograd saves, told by hooks."""
        known = {t.untyped_storage()._cdata for t in [*self.network.parameters(), self.x]}
        known |= {t.untyped_storage()._cdata for t in self.network.buffers()}
        sizes: dict[int, int] = {}
        alive = []

        def pack(tensor: Tensor) -> Tensor:
            alive.append(tensor)
            storage = tensor.untyped_storage()
            if storage._cdata not in known:
                sizes[storage._cdata] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            self.forward()
        return sum(sizes.values())

    def bytes(self) -> tuple[int, list[int]]:
        """Kept behind the forward pass, and what lived behind each operator of the step."""
        known = [*self.network.parameters(), *self.network.buffers(), self.x]
        self.run()
        gc.collect()
        with LiveBytes(known) as living:
            loss = self.forward()
            kept = living.now
            del loss
        gc.collect()
        with LiveBytes(known) as living, ExitStack() as hooks:
            for tensor in [self.x] if self.kind is Kind.G else self.weights:
                tensor.grad = None
                hooks.callback(
                    tensor.register_post_accumulate_grad_hook(
                        lambda leaf: living.leave_out(leaf.grad)
                    ).remove
                )
            self.forward().backward()
        return kept, [*living.history, living.peak]


def measure(title: str, kind: Kind, *, turns: int, threads: int) -> dict[str, Any]:
    """Every way of one step, in a process that does nothing else."""
    torch.set_num_threads(threads)
    client = CLIENTS[title]
    steps: dict[str, Step] = {}
    rows: dict[str, Any] = {}
    for name in WAYS:
        if name in _PACKAGES and not is_installed(_PACKAGES[name]):
            rows[name] = {"missing": _PACKAGES[name]}
            continue
        if name in _COMPILED and (kind not in _COMPILED_KINDS or title in _TOO_LONG_TO_COMPILE):
            continue
        try:
            step = Step(client, name, kind)
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
    expected = Step(client, PLAIN, kind).run()
    for name in steps:
        fresh = steps[name] if name in _COMPILED else Step(client, name, kind)
        found = fresh.run()
        if name in _COMPILED:
            kept, peak = fresh.saved_bytes(), None
        else:
            kept, history = fresh.bytes()
            peak = max(history)
        ratios = [own / plain for own, plain in zip(seconds[name], seconds[PLAIN], strict=True)]
        rows[name] = {
            "kept_bytes": kept,
            "peak_bytes": peak,
            "time_ratio": statistics.median(ratios),
            "median_seconds": statistics.median(seconds[name]),
            "gradients": compare(found, expected),
        }
        if name in (PLAIN, LEAN) and (title, kind) == TIMELINE:
            rows[name]["history"] = history[:-1]
    return {"shape": client.shape, "rows": {name: rows[name] for name in WAYS if name in rows}}


def compare(found: Sequence[Tensor], expected: Sequence[Tensor]) -> str:
    """How far gradients are from plain's, as a share of the largest of all."""
    if len(found) != len(expected):
        return f"{len(expected) - len(found)} of {len(expected)} missing"
    if all(map(torch.equal, found, expected)):
        return "bit-equal"
    largest = max(float(gradient.abs().max()) for gradient in expected)
    apart = max(float((a - b).abs().max()) for a, b in zip(found, expected, strict=True))
    return f"within {apart / largest:.0e}"


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
            peak = row["peak_bytes"]
            cells = [
                f"{row['kept_bytes'] / MEBIBYTE:.2f}",
                f"{row['kept_bytes'] / plain['kept_bytes']:.2f}",
                "-" if peak is None else f"{peak / MEBIBYTE:.1f}",
                "-" if peak is None else f"{peak / plain['peak_bytes']:.2f}",
                f"{row['time_ratio']:.2f}",
                row["gradients"],
            ]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    run = result["run"]
    lines.append(f"{run['summary']} {result['turns']} turns, {result['threads']} threads.")
    return "\n".join(lines)


TIMELINE = ("U-Net, spectral norm", Kind.D)
"""Of which the record has what lived behind each operator."""


def pieces() -> dict[str, tuple[str, Kind]]:
    """Every step, by its title: the network and the kind."""
    found = {}
    for name, client in CLIENTS.items():
        kinds = {
            Kind.D: client.trained,
            Kind.G: client.also_frozen,
            Kind.R1: client.is_penalised,
        }
        found |= {f"{name}: {kind.value}": (name, kind) for kind in Kind if kinds[kind]}
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
    for title, (name, kind) in pieces().items():
        if only not in title or title in result["work"]:
            continue
        print(title, flush=True)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
            measured = fresh.submit(measure, name, kind, turns=turns, threads=threads).result()
        result["work"][title] = measured | {"commit": run["commit"]}
        write_atomically(out, (json.dumps(result, indent=1) + "\n").encode())
    print(to_markdown(result))


if __name__ == "__main__":
    app()
