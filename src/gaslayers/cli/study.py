"""`gaslayers study` and `gaslayers report`: the six-case study, and its pages drawn anew."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import Annotated, NoReturn

import torch
import typer
from lightning_fabric import Fabric
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pydantic import ValidationError
from rich.console import Console

from gaslayers.cli.options import Case, Variant, fail
from gaslayers.study.checkpoint import CheckpointError
from gaslayers.study.config import PRESETS, make_configs
from gaslayers.study.data import load_digits
from gaslayers.study.progress import show_progress
from gaslayers.study.report import write_report
from gaslayers.study.report.audit import write_audit
from gaslayers.study.stopping import TERMINATED, Terminated, ending_at_sigterm
from gaslayers.study.sweep import ForeignRunError, sweep
from gaslayers.study.sweep.grid import HYPOTHESES_FILE

Preset = Enum("Preset", {preset: preset for preset in PRESETS}, type=str)  # type: ignore[misc]  # not static
INTERRUPTED = 130


class Device(str, Enum):
    """Where a study can run."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class OptimizerName(str, Enum):
    """The optimisers of the study."""

    rmsprop_tf = "rmsprop_tf"
    rmsprop = "rmsprop"
    adam = "adam"


class PenaltyName(str, Enum):
    """The penalties on the gradient of D."""

    r1 = "r1"


class PrecisionName(str, Enum):
    """The precisions of a run, in Lightning's words."""

    single = "32-true"
    mixed = "bf16-mixed"


def study(
    preset: Annotated[
        Preset | None, typer.Option(help="[default: quick on CPU, faithful elsewhere]")
    ] = None,
    case: Annotated[list[Case] | None, typer.Option(help="Repeatable. [default: all six]")] = None,
    variant: Annotated[list[Variant] | None, typer.Option(help="[default: as_coded]")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Repeatable. [default: 0]")] = None,
    iterations: Annotated[int | None, typer.Option(help="In place of the preset's.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="[default: 32]")] = None,
    generator_steps: Annotated[int | None, typer.Option(help="G steps to one D step.")] = None,
    optimizer: Annotated[OptimizerName | None, typer.Option(help="Of both networks.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Of both networks.")] = None,
    penalty: Annotated[
        PenaltyName | None, typer.Option(help="On D's gradient; of the variant modern.")
    ] = None,
    penalty_weight: Annotated[float | None, typer.Option(help="[default: 5]")] = None,
    precision: Annotated[PrecisionName | None, typer.Option(help="[default: 32-true]")] = None,
    accumulate: Annotated[
        int | None, typer.Option(help="Parts of a batch, one after the other. [default: 1]")
    ] = None,
    device: Annotated[Device, typer.Option(help="auto: CUDA, MPS, CPU in this order.")] = (
        Device.auto
    ),
    devices: Annotated[
        int | None, typer.Option(help="That share each run. [default: 1, or as torchrun says]")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
    data: Annotated[Path | None, typer.Option(help="A torchvision MNIST root.")] = None,
    download: Annotated[bool, typer.Option(help="Fetch the full MNIST.")] = False,
    out: Annotated[Path | None, typer.Option(help="[default: gaslayers-study/PRESET]")] = None,
) -> None:
    """Train the discriminators of the six-case study and draw what happened.

    Finished runs are kept: the same command goes on where a stopped one was, and one with more
    iterations where a finished one ended.
    """
    if threads is not None:
        set_threads(threads)
    fabric = start_fabric(device, devices)
    is_first = fabric.is_global_zero
    console = Console(quiet=not is_first)
    if preset is None:
        preset = Preset("quick" if fabric.device.type == "cpu" else "faithful")
    if out is None:
        out = Path("gaslayers-study") / preset.value
    options = {
        "iterations": iterations,
        "batch_size": batch_size,
        "generator_steps": generator_steps,
        "optimizer": None if optimizer is None else optimizer.value,
        "learning_rate": learning_rate,
        "penalty": None if penalty is None else penalty.value,
        "penalty_weight": penalty_weight,
        "precision": None if precision is None else precision.value,
        "accumulate": accumulate,
    }
    try:
        with ending_at_sigterm():
            digits = load_digits(data, download=download)
            configs = make_configs(
                preset.value,
                cases=[item.value for item in case or Case],
                variants=[item.value for item in variant or [Variant("as_coded")]],
                seeds=seed or [0],
                data_sha256=digits.sha256,
                options={name: value for name, value in options.items() if value is not None},
            )
            _check_batch(configs[0].batch_size, len(digits))
            with show_progress(console) as on_run:
                sweep(configs, out, digits, fabric, preset=preset.value, on_run=on_run)
            if is_first:
                _draw(out, console)
    except (KeyboardInterrupt, Terminated) as stop:
        console.print("Stopped. The same command goes on from the last checkpoint.")
        raise typer.Exit(TERMINATED if isinstance(stop, Terminated) else INTERRUPTED) from None
    except ValidationError as error:
        _refuse_option(error)
    except (OSError, ValueError, ForeignRunError, CheckpointError) as error:
        if is_first:
            fail("study", error)
        raise typer.Exit(1) from error  # the first process says why


def report(
    folder: Annotated[
        Path, typer.Argument(help="What `gaslayers study` or `gaslayers sweep` wrote.")
    ],
    out: Annotated[Path | None, typer.Option(help="[default: the same folder]")] = None,
) -> None:
    """Draw the pictures and tables of a study anew from its records, or judge those of a sweep."""
    try:
        _draw(folder, Console(), out)
    except (OSError, ValueError) as error:
        fail("report", error)


def start_fabric(device: Device, devices: int | None = 1) -> Fabric:
    """The device that an option names, as PyTorch finds it, and the processes that share a run.

    Args:
        device: The kind.
        devices: How many, with a process each; None: as many as torchrun started, or one.
    """
    machines = 1
    if devices is None:
        devices = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        machines = int(os.environ.get("GROUP_WORLD_SIZE", "1"))
    if devices < 1:
        message = f"Input should be greater than or equal to 1, got {devices}."
        raise typer.BadParameter(message, param_hint="--devices")
    try:
        fabric = Fabric(accelerator=device.value, devices=devices, num_nodes=machines)
        fabric.launch()
    except (MisconfigurationException, RuntimeError) as error:
        if device.value != "auto" and devices * machines == 1:
            message = f"this machine has no {device.value} device. Leave the option out."
            raise typer.BadParameter(message, param_hint="--device") from error
        raise typer.BadParameter(str(error), param_hint="--devices") from error
    return fabric


def set_threads(threads: int) -> None:
    """Set the threads of this process to what an option says."""
    most = os.cpu_count() or threads
    if not 1 <= threads <= most:
        message = f"Input should be greater than or equal to 1 and at most {most}, the processors "
        message += f"of this machine, got {threads}."
        raise typer.BadParameter(message, param_hint="--threads")
    torch.set_num_threads(threads)


def _check_batch(batch_size: int, digits: int) -> None:
    if batch_size > digits:
        message = f"Input should be at most {digits}, the number of digits, got {batch_size}."
        raise typer.BadParameter(message, param_hint="--batch-size")


def _refuse_option(error: ValidationError) -> NoReturn:
    """A run's configuration checks the values of the options; its fields bear their names."""
    fault = error.errors()[0]
    option = f"--{fault['loc'][0]}".replace("_", "-")
    message = f"{fault['msg']}, got {fault['input']!r}."
    raise typer.BadParameter(message, param_hint=option) from error


def _draw(folder: Path, console: Console, out: Path | None = None) -> None:
    is_audit = (folder / HYPOTHESES_FILE).exists()
    for path in (write_audit if is_audit else write_report)(folder, out):
        console.print(f"wrote {path}", highlight=False, soft_wrap=True)
