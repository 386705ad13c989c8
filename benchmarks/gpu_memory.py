"""The memory of one iteration of a case of the study, under four names, in a process of its own.

    python -m benchmarks.gpu_memory inception_8 lean --device cuda --out memory.json

- **predicted**: what `gan_peak_memory` says without running it, in blocks of CUDA's allocator;
- **allocated**: what PyTorch's allocator had handed out at the peak;
- **reserved**: what it held at the peak, free blocks included;
- **process**: what the driver charges the process for, its context included.

The iteration is the one that `gan_peak_memory` describes, with the networks, the batch, the losses
and the optimiser of the study's preset `faithful`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import nn

from gaslayers import LSGANDiscriminatorLoss, LSGANGeneratorLoss
from gaslayers.accounting import GANPeakReport, MeasuredPeak, gan_peak_memory, measure_peak
from gaslayers.accounting.peak_report import PeakReport
from gaslayers.models import LSGANGenerator, build_discriminator
from gaslayers.study.config import RunConfig, make_configs
from gaslayers.study.optimizers import make_optimizer
from gaslayers.study.records import write_atomically

WAYS = {"lean": True, "plain": False}
TINY = {"batch_size": 4, "generator_base_channels": 8}
ITERATIONS_BEFORE = 3  # the optimisers' states are made, and kernels chosen, in the first


def make_config(case: str, *, tiny: bool) -> RunConfig:
    """The case as the study trains it, or a small one."""
    (config,) = make_configs(
        "faithful",
        cases=[case],
        variants=["as_coded"],
        seeds=[0],
        data_sha256="",  # images are drawn: what they show costs nothing
        options=TINY if tiny else {},
    )
    return config


class Iteration:
    """Both networks of a case on a device, and the two steps of an iteration.

    Args:
        config: The case.
        memory_efficient: Whether D runs lean.
        device: Where it runs.
    """

    def __init__(self, config: RunConfig, *, memory_efficient: bool, device: str) -> None:
        torch.manual_seed(config.seed)
        generator = LSGANGenerator(
            base_channels=config.generator_base_channels,
            upsampling=config.generator_upsampling,
            variant=config.generator_variant,
        )
        discriminator = build_discriminator(
            config.case, variant=config.variant, memory_efficient=memory_efficient
        )
        layout = torch.channels_last  # as the study has it
        self.generator: nn.Module = generator.to(device).to(memory_format=layout)
        self.discriminator: nn.Module = discriminator.to(device).to(memory_format=layout)
        real = torch.rand(config.batch_size, 1, 28, 28).to(device)
        self.real = real.contiguous(memory_format=layout)
        self.latent = torch.rand(config.batch_size, generator.latent_size).to(device)
        self.discriminator_loss = LSGANDiscriminatorLoss(reduction=config.loss_reduction)
        self.generator_loss = LSGANGeneratorLoss(reduction=config.loss_reduction)
        self.make_optimizer = partial(make_optimizer, config=config)

    def predict(self) -> GANPeakReport:
        """The peaks of both steps, without running them."""
        return gan_peak_memory(
            self.discriminator,
            self.generator,
            self.real,
            self.latent,
            discriminator_loss=self.discriminator_loss,
            generator_loss=self.generator_loss,
            optimizer=self.make_optimizer,
        )

    def make_steps(self) -> dict[str, Callable[[], None]]:
        """The D step and the G step, each with its optimiser."""
        d_optimizer = self.make_optimizer(self.discriminator.parameters())
        g_optimizer = self.make_optimizer(self.generator.parameters())

        # What a step makes lives until it ends, as in the prediction: hence the names.
        def discriminator_step() -> None:
            self.discriminator.requires_grad_(True)
            with torch.no_grad():
                fake = self.generator(self.latent)
            real_scores, fake_scores = self.discriminator(self.real), self.discriminator(fake)
            loss = self.discriminator_loss(real_scores, fake_scores)
            loss.backward()
            d_optimizer.step()
            d_optimizer.zero_grad(set_to_none=True)

        def generator_step() -> None:
            self.discriminator.requires_grad_(False)
            fake = self.generator(self.latent)
            scores = self.discriminator(fake)
            loss = self.generator_loss(scores)
            loss.backward()
            g_optimizer.step()
            g_optimizer.zero_grad(set_to_none=True)

        return {"discriminator_step": discriminator_step, "generator_step": generator_step}


def describe_step(predicted: PeakReport, measured: MeasuredPeak) -> dict[str, Any]:
    """Prediction and reading of one step side by side."""
    return {
        "predicted": predicted.allocator_peak,
        "predicted_before": predicted.allocator_start,
        "predicted_tensors": predicted.peak,
        "workspace": measured.workspace(predicted),
        **measured.to_dict(),
    }


def measure(case: str, way: str, *, device: str, tiny: bool) -> dict[str, Any]:
    """Predict an iteration, take a few, and read the memory of one more."""
    config = make_config(case, tiny=tiny)
    iteration = Iteration(config, memory_efficient=WAYS[way], device=device)
    predicted = iteration.predict()
    reports = {
        "discriminator_step": predicted.discriminator_step,
        "generator_step": predicted.generator_step,
    }
    steps = iteration.make_steps()
    for _ in range(ITERATIONS_BEFORE):
        for step in steps.values():
            step()
    readings = {
        name: measure_peak(step, device=device, process=False) for name, step in steps.items()
    }
    last = readings["generator_step"]
    reserved = [found.reserved for found in readings.values() if found.reserved is not None]
    return {
        "predicted": predicted.allocator_peak,
        "allocated": max(found.allocated for found in readings.values()),
        "reserved": max(reserved, default=None),
        "process": last.process,
        "process_reason": last.process_reason,
        "batch_size": config.batch_size,
        "generator_base_channels": config.generator_base_channels,
        "steps": {name: describe_step(reports[name], readings[name]) for name in steps},
    }


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    case: Annotated[str, typer.Argument(help="One of the six.")],
    way: Annotated[str, typer.Argument(help=f"One of {', '.join(WAYS)}.")],
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cuda",
    tiny: Annotated[bool, typer.Option(help="A small batch and generator.")] = False,
    out: Annotated[Path, typer.Option(help="The JSON file.")] = Path("gpu_memory.json"),
) -> None:
    """Measure one case in one way."""
    result = measure(case, way, device=device, tiny=tiny)
    write_atomically(out, (json.dumps(result, indent=1) + "\n").encode())


if __name__ == "__main__":
    app()
