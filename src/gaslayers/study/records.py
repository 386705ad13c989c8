"""What a run leaves behind: one folder with a record, curves, pictures and a checkpoint.

::

    <out>/<case>-<variant>-seed<seed>/
        record.json             what ran, on what, with which outcome; written last
        curves.csv              one row a logged iteration
        samples/000200.png      32 images from fixed noise, four rows of eight
        checkpoint.safetensors  both networks and optimisers after the last saved iteration

A run is finished when its record is there. Every file is written under another name, which ends in
``.part``, and then renamed, so that a reader or a killed writer never leaves half of one.
"""

from __future__ import annotations

import csv
import io
import os
import re
import tempfile
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, model_validator
from torchvision.utils import make_grid

from gaslayers.study.config import RunConfig
from gaslayers.study.metrics.scores import Evaluation

GRID_COLUMNS = 8

# What a writer that is killed leaves behind, by this version's names and by any that say so.
_LEFTOVER = re.compile(
    r"\.(record\.json|curves\.csv|checkpoint\.safetensors|\d+\.png)\..+|.+\.(part|tmp)"
)


class CurvePoint(BaseModel):
    """What was read after one iteration, on a fresh batch.

    Older records lack the last three, and so do slopes of a linear head: `gaslayers.study.Watch`
    says what they are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    iteration: int
    discriminator_loss: float
    generator_loss: float
    real_logit_mean: float
    real_logit_std: float
    fake_logit_mean: float
    fake_logit_std: float
    real_slope: float | None = None
    fake_slope: float | None = None
    gradient_norm: float | None = None


class Machine(BaseModel):
    """What a run ran on; device, processor and threads are those of each of its processes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str
    processor: str
    threads: int
    processes: int = 1
    platform: str
    python: str
    torch: str
    gaslayers: str


class MemoryReading(BaseModel):
    """CUDA memory of one D step, in bytes; three different numbers, never mixed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    peak_allocated: int
    peak_reserved: int
    process: int | None


class MemoryPrediction(BaseModel):
    """Bytes of one D step by PyTorch's operators, not run; plain: with the lean paths off."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    saved_bytes: int
    saved_bytes_plain: int
    tensor_peak: int
    tensor_peak_plain: int


class Record(BaseModel):
    """The record of one finished run.

    The hash of hypotheses is that of the file which was there before the run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1, 2] = 2
    preset: str
    config: RunConfig
    config_hash: str
    code_hash: str
    data_source: str
    machine: Machine
    outcome: Literal["finished", "non_finite"]
    message: str = ""
    iterations_done: int
    seconds: float
    processor_seconds: float
    discriminator_parameters: int
    generator_parameters: int
    discriminator_forward_flops: int
    flops_convention: str
    memory: MemoryReading | None = None
    memory_predicted: MemoryPrediction | None = None
    evaluation: Evaluation | None = None
    hypotheses_sha256: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_rate(cls, data: Any) -> Any:
        # Older records hold iterations per second of the clock: how busy the machine was.
        if isinstance(data, dict):
            return {name: value for name, value in data.items() if name != "iterations_per_second"}
        return data

    @property
    def iterations_per_processor_second(self) -> float:
        """Iterations over the processor time that they took, whatever else the machine did."""
        return self.iterations_done / self.processor_seconds if self.processor_seconds else 0.0


class RunFolder:
    """The paths of one run and the only way in which its files are read and written.

    Args:
        path: The run's folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record_path = path / "record.json"
        self.curves_path = path / "curves.csv"
        self.samples_path = path / "samples"
        self.checkpoint_path = path / "checkpoint.safetensors"
        self.lock_path = path / "run.lock"

    def read_record(self) -> Record:
        """Read and check the record.

        Raises:
            FileNotFoundError: There is none.
            ValueError: It does not fit the schema (pydantic's ``ValidationError``).
        """
        return Record.model_validate_json(self.record_path.read_bytes())

    def write_record(self, record: Record) -> None:
        """Write the record; from here on the run is finished."""
        write_atomically(self.record_path, (record.model_dump_json(indent=2) + "\n").encode())

    def read_curves(self) -> list[CurvePoint]:
        """Read all logged iterations in order."""
        with self.curves_path.open(newline="") as file:
            rows = csv.DictReader(file)
            known = ({name: cell for name, cell in row.items() if cell != ""} for row in rows)
            return [CurvePoint.model_validate(row) for row in known]

    def write_curves(self, curves: list[CurvePoint]) -> None:
        """Write all logged iterations; floats are written so that they read back the same."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(CurvePoint.model_fields), lineterminator="\n")
        writer.writeheader()
        writer.writerows(point.model_dump() for point in curves)
        write_atomically(self.curves_path, text.getvalue().encode())

    def sample_paths(self) -> dict[int, Path]:
        """The sample grids by iteration, in order."""
        return {int(path.stem): path for path in sorted(self.samples_path.glob("*.png"))}

    def remove_leftovers(self) -> None:
        """Remove what killed writers left; for who holds the lock, as others may be writing."""
        for folder in (self.path, self.samples_path):
            for path in folder.glob("*"):
                if _LEFTOVER.fullmatch(path.name) and path.is_file():
                    path.unlink(missing_ok=True)

    def remove_other_samples(self, config: RunConfig) -> None:
        """Remove the grids that this configuration does not save, as the last of a shorter run."""
        for iteration, path in self.sample_paths().items():
            if not config.is_sampled(iteration):
                path.unlink(missing_ok=True)

    def write_samples(self, iteration: int, images: torch.Tensor) -> None:
        """Write images of shape (N, 1, H, W) in [0, 1] as one grey grid without gaps."""
        grid = make_grid(images, nrow=GRID_COLUMNS, padding=0)[0]
        pixels = grid.mul(255.0).round().to(torch.uint8).numpy()
        png = io.BytesIO()
        Image.fromarray(pixels).save(png, format="PNG", optimize=True)
        write_atomically(self.samples_path / f"{iteration:06d}.png", png.getvalue())


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is there in full or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
