"""What it takes to judge a GAN: manifold metrics beside prdc, and what a watch adds to training.

    python -m benchmarks.judging --out judging.json

Precision, recall, density and coverage of 10,000 x 64 features by `compare_manifolds` and by prdc,
the reference implementation, in interleaved turns; memory is by how much a fresh process rises.
Then the iterations of two GANs with and without a `Watch`, in turns.
"""

from __future__ import annotations

import copy
import importlib
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn
from torch.func import functional_call

from benchmarks.provenance import describe_run, is_installed
from gaslayers import LSGANDiscriminatorLoss, LSGANGeneratorLoss, frozen, measure_peak
from gaslayers.models import LSGANGenerator, build_discriminator
from gaslayers.study import Watch
from gaslayers.study.metrics import compare_manifolds
from gaslayers.study.records import write_atomically

SAMPLES, FEATURES, NEAREST = 10_000, 64, 5
PEER = "prdc"
BALANCE_EVERY = 50


def draw_features() -> tuple[Tensor, Tensor]:
    """Generated and real ones, float64, of which half lie on each other."""
    source = torch.Generator().manual_seed(0)
    real, generated = (
        torch.randn(SAMPLES, FEATURES, generator=source, dtype=torch.float64) for _ in range(2)
    )
    generated[: SAMPLES // 2] *= 0.7
    return generated, real


def by_ours() -> dict[str, float]:
    """Our four numbers."""
    return asdict(compare_manifolds(*draw_features(), nearest_k=NEAREST))


def by_peer() -> dict[str, float]:
    """prdc's four numbers, which it prints nothing of."""
    import contextlib
    import io

    from prdc import compute_prdc

    generated, real = draw_features()
    with contextlib.redirect_stdout(io.StringIO()):
        found = compute_prdc(real.numpy(), generated.numpy(), nearest_k=NEAREST)
    return {name: float(value) for name, value in found.items()}


def measure_manifolds(turns: int) -> dict[str, Any]:
    """Time and memory of both, and how far their numbers are apart."""
    # By the name of this module, which a fresh process finds: run as a script it has none.
    module = importlib.import_module("benchmarks.judging")
    ways: dict[str, Callable[[], dict[str, float]]] = {"gaslayers": module.by_ours}
    if is_installed(PEER):
        ways[PEER] = module.by_peer
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    values: dict[str, dict[str, float]] = {}
    for _ in range(turns):
        for name, way in ways.items():
            started = time.perf_counter()
            values[name] = way()
            seconds[name].append(time.perf_counter() - started)
    nothing = _rise(module.draw_features)
    rows = {
        name: {
            "seconds": statistics.median(seconds[name]),
            "process_bytes": _rise(way) - nothing,
            "values": values[name],
        }
        for name, way in ways.items()
    }
    if PEER in rows:
        for name in ways:
            rows[name]["difference"] = max(
                abs(values[name][key] - values[PEER][key]) for key in values[PEER]
            )
    return rows


def _rise(step: Callable[[], Any]) -> int:
    """By how much a fresh process rises, in bytes."""
    measured = measure_peak(step, device="cpu")
    if measured.process is None:
        raise RuntimeError(f"benchmarks.judging: {measured.process_reason}")
    return measured.process


class Loop:
    """The iterations of one GAN, watched or not.

    Args:
        case: Of the six discriminators.
        is_watched: Whether a watch reads every iteration.
    """

    def __init__(self, case: str, *, is_watched: bool) -> None:
        torch.manual_seed(0)
        layout = torch.channels_last
        generator = LSGANGenerator(base_channels=64, upsampling="pixel_shuffle", variant="modern")
        self.generator = generator.to(memory_format=layout)
        self.discriminator = build_discriminator(case, variant="modern").to(memory_format=layout)
        self.of_g, self.of_d = (
            torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999))
            for network in (self.generator, self.discriminator)
        )
        self.loss_of_g = LSGANGeneratorLoss(reduction="mean")
        self.loss_of_d = LSGANDiscriminatorLoss(reduction="mean")
        self.real = torch.rand(32, 1, 28, 28).to(memory_format=layout)
        self.watch = Watch(balance_every=BALANCE_EVERY) if is_watched else None

    def iterate(self) -> None:
        """One step of D, one of G."""
        watch = self.watch
        with torch.no_grad():
            fake = self.generator(torch.randn(32, 100))
        real_scores, fake_scores = self.discriminator(self.real), self.discriminator(fake)
        loss = self.loss_of_d(real_scores, fake_scores)
        if watch is not None:
            watch.discriminator_step(real_scores, fake_scores, loss)
        self.of_d.zero_grad()
        loss.backward()
        self.of_d.step()
        noise = torch.randn(32, 100)
        with frozen(self.discriminator):
            images = self.generator(noise)
            if watch is not None:
                images = watch.generated(images)
            before = self.discriminator(images)
            loss = self.loss_of_g(before)
            self.of_g.zero_grad()
            loss.backward()
        self.of_g.step()
        if watch is not None:
            watch.generator_step(loss)
            if watch.wants_balance:
                watch.balance(before, self._score_again(noise))

    @torch.no_grad()
    def _score_again(self, noise: Tensor) -> Tensor:
        scores: Tensor = noise
        for network in (self.generator, self.discriminator):
            scores = functional_call(network, _copies(network), (scores,))
        return scores


def _copies(network: nn.Module) -> dict[str, Tensor]:
    return {name: copy.deepcopy(buffer) for name, buffer in network.named_buffers()}


def measure_watch(case: str, turns: int, *, iterations: int = BALANCE_EVERY) -> dict[str, float]:
    """What an iteration takes with a watch over what it takes without one."""
    loops = [Loop(case, is_watched=is_watched) for is_watched in (False, True)]
    seconds: list[list[float]] = [[], []]
    for loop in loops:
        loop.iterate()
    for _ in range(turns):
        for loop, taken in zip(loops, seconds, strict=True):
            started = time.perf_counter()
            for _ in range(iterations):
                loop.iterate()
            taken.append((time.perf_counter() - started) / iterations)
    ratios = [watched / plain for plain, watched in zip(*seconds, strict=True)]
    return {
        "seconds": statistics.median(seconds[0]),
        "time_ratio": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
    }


def main(
    out: Annotated[Path, typer.Option(help="The record.")] = Path("judging.json"),
    turns: Annotated[int, typer.Option(help="Of everything.")] = 5,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
) -> None:
    """Measure, print and write."""
    torch.set_num_threads(threads)
    record = {
        "run": describe_run(),
        "threads": threads,
        "repeats": turns,
        "samples": SAMPLES,
        "features": FEATURES,
        "manifolds": measure_manifolds(turns),
        "watch": {case: measure_watch(case, turns) for case in ("original", "inception_8")},
    }
    write_atomically(out, (json.dumps(record, indent=2) + "\n").encode())
    typer.echo(json.dumps({key: record[key] for key in ("manifolds", "watch")}, indent=2))


if __name__ == "__main__":
    typer.run(main)
