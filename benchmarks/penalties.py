"""What a step of R1 takes by `gaslayers.gradient_penalty`, beside double backward and its peers.

    python -m benchmarks.penalties --out penalties.json

A step is the penalty and its backward pass. Peaks are those of live storages, by a watcher that
knows nothing of the library: parameters, their gradients, buffers and the input are left out. The
D step beside it is one ordinary forward and backward pass. The ways are timed in turns; each turn
gives one ratio to autograd. Gradients are compared with those of autograd, as a share of the
largest.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from benchmarks.discriminators import CLIENTS
from benchmarks.lean import MEBIBYTE
from benchmarks.live_bytes import LiveBytes
from benchmarks.provenance import describe_run
from gaslayers import explain_penalty, gradient_penalty, lean_saving
from gaslayers.study.records import write_atomically

Way = Callable[[nn.Module, Tensor], Tensor]

STEP = "the D step itself"
AUTOGRAD = "double backward by autograd"
OURS = "gradient_penalty"
FINITE = "finite difference of scores"
SIGMA = 0.01
"""How far apart the two points of a finite difference are."""


def _stages(kernel: int, stride: int, *, pools: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in ((3, 64), (64, 128), (128, 256)):
        layers += [nn.Conv2d(a, b, kernel, stride, 1), nn.LeakyReLU(0.2)]
        layers += [nn.MaxPool2d(2)] if pools else []
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(256 * 16, 1))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Sequence[int]]] = {
    "convolution, LeakyReLU, pooling": (lambda: _stages(3, 1, pools=True), (64, 3, 32, 32)),
    "strided convolution, LeakyReLU": (lambda: _stages(4, 2, pools=False), (16, 3, 32, 32)),
} | {
    name: (CLIENTS[name].build, CLIENTS[name].shape)
    for name in (
        "SN-ResNet", "period and scale", "U-Net, spectral norm", "R3GAN-like", "StyleGAN2-like",
        "DCGAN, batch norm", "PatchGAN, instance norm",
    )
}  # fmt: skip


def scores_of(made: Any) -> list[Tensor]:
    """The scores among what a network gives: the last map of each list."""
    return [maps[-1] for maps in made] if isinstance(made, list) else [made]


def _step(network: nn.Module, x: Tensor) -> Tensor:
    return torch.stack([y.square().mean() for y in scores_of(network(x))]).sum()


def _by_autograd(network: Callable[[Tensor], Any], x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    sums = [y.sum() for y in scores_of(network(x))]
    (gradient,) = torch.autograd.grad(sums, x, create_graph=True)
    return gradient.square().flatten(1).sum(1).mean()


def _ours(network: nn.Module, x: Tensor) -> Tensor:
    return gradient_penalty(network, x, penalty="r1", score=scores_of)


def _lean(network: nn.Module, x: Tensor) -> Tensor:
    with lean_saving():
        return _by_autograd(network, x)


def _checkpointed(network: nn.Module, x: Tensor) -> Tensor:
    """A checkpoint a stage of a row of layers; else one around all."""
    if not isinstance(network, nn.Sequential):
        return _by_autograd(lambda t: checkpoint(network, t, use_reentrant=False), x)

    def run(t: Tensor) -> Tensor:
        for start in range(0, len(network), 3):
            t = checkpoint(network[start : start + 3], t, use_reentrant=False)
        return t

    return _by_autograd(run, x)


def _on_cpu(network: nn.Module, x: Tensor) -> Tensor:
    with torch.autograd.graph.save_on_cpu():
        return _by_autograd(network, x)


def _compiled(network: nn.Module, x: Tensor) -> Tensor:
    return _by_autograd(torch.compile(network, backend="aot_eager"), x)


def _finite(network: nn.Module, x: Tensor) -> Tensor:
    """As Lin et al. 2025 approximate R1: by the scores of two points at random, in one call."""
    made = scores_of(network(torch.cat([x, x + SIGMA * torch.randn_like(x)])))
    pairs = [scores.chunk(2) for scores in made]
    change = torch.stack([(b - a).flatten(1).sum(1) for a, b in pairs]).sum(0)
    return change.square().mean() / SIGMA**2


WAYS: dict[str, Way] = {
    AUTOGRAD: _by_autograd,
    OURS: _ours,
    "double backward under lean_saving": _lean,
    "double backward through checkpoints": _checkpointed,
    "double backward under save_on_cpu": _on_cpu,
    "double backward through torch.compile": _compiled,
    FINITE: _finite,
    STEP: _step,
}


def _peak(way: Way, network: nn.Module, x: Tensor) -> int:
    """The most bytes that lived at once."""
    with LiveBytes([*network.parameters(), *network.buffers(), x]) as living, ExitStack() as hooks:
        for parameter in network.parameters():
            parameter.grad = None
            hooks.callback(
                parameter.register_post_accumulate_grad_hook(
                    lambda leaf: living.leave_out(leaf.grad)
                ).remove
            )
        way(network, x).backward()
    return living.peak


def _gradients(way: Way, build: Callable[[], nn.Module], x: Tensor, *, seed: int = 2) -> Any:
    """The value, and all gradients as one line, of a fresh network."""
    torch.manual_seed(0)
    network = build()
    torch.manual_seed(seed)
    value = way(network, x)
    value.backward()
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in network.parameters()]
    return value.item(), torch.cat([grad.flatten() for grad in grads])


def _failure(way: Way, network: nn.Module, x: Tensor) -> str | None:
    """Why a way does not run; None: it does."""
    try:
        way(network, x).backward()
    except Exception as error:  # noqa: BLE001  # a peer that does not run is a result
        return f"{type(error).__name__}: {str(error).splitlines()[0]:.100}"
    return None


def measure(name: str, *, turns: int, threads: int, draws: int) -> dict[str, Any]:
    """Every way of one network, in a process that does nothing else."""
    torch.set_num_threads(threads)
    build, shape = NETWORKS[name]
    torch.manual_seed(0)
    network = build()
    x = torch.rand(*shape, generator=torch.Generator().manual_seed(1))
    rows: dict[str, Any] = {}
    for title, way in WAYS.items():
        failure = _failure(way, network, x)
        if failure is not None:
            rows[title] = {"failed": failure}
    running = {title: way for title, way in WAYS.items() if title not in rows}
    seconds: dict[str, list[float]] = {title: [] for title in running}
    for _ in range(turns):
        for title, way in running.items():
            start = time.perf_counter()
            way(network, x).backward()
            seconds[title].append(time.perf_counter() - start)
    value, exact = _gradients(_by_autograd, build, x)
    for title, way in running.items():
        gc.collect()
        ratios = [a / b for a, b in zip(seconds[title], seconds[AUTOGRAD], strict=True)]
        rows[title] = {
            "peak_bytes": _peak(way, network, x),
            "time_ratio": statistics.median(ratios),
            "median_seconds": statistics.median(seconds[title]),
        }
        if title != STEP:
            _, found = _gradients(way, build, x)
            rows[title]["difference"] = ((found - exact).abs().max() / exact.abs().max()).item()
    rows[FINITE] |= _bias(build, x, value, exact, draws)
    report = explain_penalty(network, x, score=scores_of)
    ordered = {title: rows[title] for title in WAYS}
    return {"shape": shape, "method": report.method, "reason": report.reason, "rows": ordered}


def _bias(
    build: Callable[[], nn.Module], x: Tensor, value: float, exact: Tensor, count: int
) -> dict[str, Any]:
    """How far the mean of many approximations is from the penalty, and how far each one."""
    draws = [_gradients(_finite, build, x, seed=seed) for seed in range(count)]
    mean = torch.stack([grads for _, grads in draws]).mean(0)
    single = [((grads - exact).norm() / exact.norm()).item() for _, grads in draws]
    return {
        "draws": count,
        "bias_of_value": statistics.mean(found for found, _ in draws) / value - 1,
        "bias_of_gradient": ((mean - exact).norm() / exact.norm()).item(),
        "error_of_gradient": statistics.median(single),
    }


def to_markdown(result: dict[str, Any]) -> str:
    """A table a network, a row a way."""
    lines = []
    for name, work in result["work"].items():
        plain = work["rows"][AUTOGRAD]
        lines += [
            f"### {name}: {work['method']}",
            "",
            "| way | peak, MiB | of autograd | time / autograd | difference of gradients |",
            "|---|---:|---:|---:|---:|",
        ]
        for title, row in work["rows"].items():
            if "failed" in row:
                lines.append(f"| {title} | - | - | - | {row['failed']} |")
                continue
            cells = [
                f"{row['peak_bytes'] / MEBIBYTE:.1f}",
                f"{row['peak_bytes'] / plain['peak_bytes']:.2f}",
                f"{row['time_ratio']:.2f}",
                f"{row['difference']:.0e}" if "difference" in row else "-",
            ]
            lines.append(f"| {title} | {' | '.join(cells)} |")
        finite = work["rows"][FINITE]
        lines += [
            "",
            f"Of {finite['draws']} finite differences the mean is off by "
            f"{finite['bias_of_value']:+.0%} in the value and by "
            f"{finite['bias_of_gradient']:.0%} in the gradient; one of them is "
            f"{finite['error_of_gradient']:.0%} off in the gradient.",
            "",
        ]
    run = result["run"]
    lines.append(f"{run['summary']} {result['turns']} turns, {result['threads']} threads.")
    return "\n".join(lines)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    only: Annotated[str, typer.Option(help="Networks whose names contain this.")] = "",
    turns: Annotated[int, typer.Option(min=3, help="Turns.")] = 7,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    draws: Annotated[int, typer.Option(min=1, help="Finite differences for the bias.")] = 16,
    out: Annotated[Path, typer.Option(help="The JSON file.")] = Path("penalties.json"),
) -> None:
    """Measure, write JSON and print Markdown; go on where an interrupted run of the file ended."""
    run = describe_run()
    result: dict[str, Any] = {"run": run, "turns": turns, "threads": threads, "work": {}}
    if out.exists():
        result = json.loads(out.read_text(encoding="utf-8"))
    for name in NETWORKS:
        if only not in name or name in result["work"]:
            continue
        print(name, flush=True)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
            measured = fresh.submit(
                measure, name, turns=turns, threads=threads, draws=draws
            ).result()
        result["work"][name] = measured | {"commit": run["commit"], "turns": turns}
        write_atomically(out, (json.dumps(result, indent=1) + "\n").encode())
    print(to_markdown(result))


if __name__ == "__main__":
    app()
