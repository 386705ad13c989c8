"""Many runs into one folder, one after the other, each exactly once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path

from filelock import FileLock, Timeout
from lightning_fabric import Fabric
from pydantic import ValidationError

from gaslayers.study.config import RunConfig
from gaslayers.study.data import Digits
from gaslayers.study.records import Record, RunFolder
from gaslayers.study.run import OnIteration, run

# How long to wait for a run that another process holds, in the first round and in the second.
AT_ONCE, FOR_EVER = 0, -1

OnRun = Callable[[RunConfig], OnIteration]
"""Called when a run starts or continues here; returns what to call after its iterations."""


class ForeignRunError(RuntimeError):
    """The folder holds a record that is not of this run: of another configuration, or damaged."""


def sweep(
    configs: Iterable[RunConfig],
    out: Path,
    digits: Digits,
    fabric: Fabric,
    *,
    preset: str,
    on_run: OnRun,
) -> list[Record]:
    """Finish every run that is not finished yet and return all records, in the given order.

    Several processes may sweep one folder: each run is done by the one that holds its lock, and
    the locks of a killed process are free again. Runs that another process works on are put off
    to the end and then waited for.

    Args:
        configs: The runs.
        out: The folder that holds, or will hold, the runs' folders.
        digits: The real data.
        fabric: Where the runs run.
        preset: The preset's name, for the records.
        on_run: Called when a run starts here.

    Raises:
        ForeignRunError: The record of another configuration, or a damaged one, is in the way.
        CheckpointError: A checkpoint that cannot be continued from is in the way.
    """
    configs = list(configs)
    for timeout in (AT_ONCE, FOR_EVER):
        for config in configs:
            with contextlib.suppress(Timeout):
                _finish(config, out, digits, fabric, preset=preset, on_run=on_run, timeout=timeout)
    return [_read_record(RunFolder(out / config.name)) for config in configs]


def _finish(
    config: RunConfig,
    out: Path,
    digits: Digits,
    fabric: Fabric,
    *,
    preset: str,
    on_run: OnRun,
    timeout: float,
) -> None:
    folder = RunFolder(out / config.name)
    folder.path.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.lock_path, timeout=timeout):
        if not folder.record_path.exists():
            run(config, folder, digits, fabric, preset=preset, on_iteration=on_run(config))
        elif _read_record(folder).config_hash != config.config_hash:
            raise ForeignRunError(
                f"{folder.record_path} is the record of another configuration. "
                "Choose another folder, or delete that one to run this configuration."
            )


def _read_record(folder: RunFolder) -> Record:
    try:
        return folder.read_record()
    except ValidationError as error:
        raise ForeignRunError(
            f"{folder.record_path} is not a readable record: {error}. "
            "Delete it: the run then goes on from its checkpoint."
        ) from error
