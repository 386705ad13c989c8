"""One case of the study from its name to its finished run."""

from __future__ import annotations

from pathlib import Path

from lightning_fabric import Fabric
from rich.console import Console

from gaslayers.study.config import make_configs
from gaslayers.study.data import Digits
from gaslayers.study.progress import show_progress
from gaslayers.study.report.runs import Run, read_run
from gaslayers.study.sweep import sweep


def run_case(
    case: str,
    out: Path,
    digits: Digits,
    fabric: Fabric,
    *,
    preset: str = "faithful",
    variant: str = "as_coded",
    seed: int = 0,
) -> Run:
    """Train one case by a preset, showing its progress, and read the finished run.

    A finished run is not run again, and a stopped one goes on from its last checkpoint.

    Args:
        case: One of `gaslayers.models.CASES`.
        out: The study's folder, which the run's folder goes into.
        digits: The real data.
        fabric: Where it runs.
        preset: One of `PRESETS`.
        variant: One of `gaslayers.models.VARIANTS`.
        seed: Where all randomness comes from.

    Raises:
        ForeignRunError: The record of another configuration is in the way.
        CheckpointError: A checkpoint that cannot be continued from is in the way.
    """
    configs = make_configs(
        preset,
        cases=[case],
        variants=[variant],
        seeds=[seed],
        data_sha256=digits.sha256,
        options={},
    )
    with show_progress(Console()) as on_run:
        sweep(configs, out, digits, fabric, preset=preset, on_run=on_run)
    return read_run(out / configs[0].name)
