"""Many runs into one folder, one after the other, each exactly once."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable
from pathlib import Path

from filelock import FileLock, Timeout
from lightning_fabric import Fabric
from pydantic import ValidationError

from gaslayers.study.batches import check_batch_size
from gaslayers.study.config import RunConfig
from gaslayers.study.data import Digits
from gaslayers.study.records import Record, RunFolder
from gaslayers.study.run import OnIteration, run
from gaslayers.study.stopping import ending_at_sigterm

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
    to the end and then waited for. A finished run of fewer iterations goes on to as many as are
    asked for. SIGTERM saves the run that is training and ends the program with status 143.

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
        Terminated: SIGTERM came.
        ValueError: A batch is larger than the data.
    """
    configs = list(configs)
    for config in configs:
        check_batch_size(config, digits)
    with ending_at_sigterm():
        for timeout, config in itertools.product((AT_ONCE, FOR_EVER), configs):
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
        shorter = None
        if folder.record_path.exists():
            record = _read_record(folder)
            if record.config_hash == config.config_hash:
                folder.remove_leftovers()
                return
            shorter = record.config
            _check_extension(folder, shorter, config)
        on_iteration = on_run(config)
        run(
            config,
            folder,
            digits,
            fabric,
            preset=preset,
            on_iteration=on_iteration,
            shorter=shorter,
        )


def _check_extension(folder: RunFolder, done: RunConfig, config: RunConfig) -> None:
    """Refuse to go on from a finished run unless it is this one with fewer iterations."""
    is_same_otherwise = done.model_copy(update={"iterations": config.iterations}) == config
    if not is_same_otherwise or done.iterations >= config.iterations:
        raise ForeignRunError(
            f"{folder.record_path} is the record of another configuration. "
            "Choose another folder, or delete that one to run this configuration."
        )
    if not folder.checkpoint_path.exists():
        raise ForeignRunError(
            f"{folder.checkpoint_path} is missing, from which the {done.iterations} iterations of "
            f"this run would go on to {config.iterations}. "
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
