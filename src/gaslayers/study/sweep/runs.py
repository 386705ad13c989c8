"""Many runs, one after the other, each exactly once, whatever else works on them."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from lightning_fabric import Fabric
from pydantic import ValidationError

from gaslayers.study.batches import check_batch_size
from gaslayers.study.config import RunConfig
from gaslayers.study.data import Digits
from gaslayers.study.records import Record, RunFolder
from gaslayers.study.run import OnIteration, ignore, run
from gaslayers.study.sharing import check_shares, on_first
from gaslayers.study.stopping import ending_at_sigterm

# How long to wait for a run that another process holds, in the first round and in the second.
AT_ONCE, FOR_EVER = 0.0, -1.0

# Seconds between two answers to the other processes of a run.
_PATIENCE = 60.0

OnRun = Callable[[RunConfig], OnIteration]
"""Called when a run starts or continues here; returns what to call after its iterations."""


def watch_nothing(_config: RunConfig) -> OnIteration:
    """For runs that nobody watches."""
    return ignore


class ForeignRunError(RuntimeError):
    """The folder holds a record that is not of this run: of another configuration, or damaged."""


@dataclass(frozen=True)
class Planned:
    """A run that is to be made.

    Args:
        config: What it is.
        folder: The folder of the study that it belongs to, which the run's own folder goes into.
        preset: The preset's name, for its record.
        hypotheses_sha256: Of the file of hypotheses that it is to test, for its record.
    """

    config: RunConfig
    folder: Path
    preset: str
    hypotheses_sha256: str | None = None

    @property
    def run_folder(self) -> RunFolder:
        """Where its files go."""
        return RunFolder(self.folder / self.config.name)


def sweep(
    configs: Iterable[RunConfig],
    out: Path,
    digits: Digits,
    fabric: Fabric,
    *,
    preset: str,
    on_run: OnRun,
) -> list[Record]:
    """Finish every run of one study that is not finished yet, as `finish_all` does.

    Args:
        configs: The runs.
        out: The folder that holds, or will hold, the runs' folders.
        digits: The real data.
        fabric: Where the runs run.
        preset: The preset's name, for the records.
        on_run: Called when a run starts here.
    """
    planned = [Planned(config, out, preset) for config in configs]
    return finish_all(planned, digits, fabric, on_run=on_run)


def finish_all(
    planned: Sequence[Planned],
    digits: Digits,
    fabric: Fabric,
    *,
    on_run: OnRun,
    judged: bool = False,
) -> list[Record]:
    """Finish every run that is not finished yet and return all records, in the given order.

    Several processes may work on the same runs: each run is done by the one that holds its lock,
    and the locks of a killed process are free again. Runs that another process works on are put off
    to the end and then waited for. A finished run of fewer iterations goes on to as many as are
    asked for. SIGTERM saves the run that is training and ends the program with status 143.

    Args:
        planned: The runs.
        digits: The real data.
        fabric: Where the runs run.
        on_run: Called when a run starts here.
        judged: Whether samples are judged at the end of every run that ends here.

    Raises:
        ForeignRunError: The record of another configuration, or a damaged one, is in the way.
        CheckpointError: A checkpoint that cannot be continued from is in the way.
        Terminated: SIGTERM came.
        ValueError: A batch is larger than the data, or no multiple of the fabric's processes.
    """
    for one in planned:
        check_batch_size(one.config, digits)
        check_shares(one.config, fabric)
    with ending_at_sigterm():
        for timeout, one in itertools.product((AT_ONCE, FOR_EVER), planned):
            with contextlib.suppress(Timeout):
                finish(one, digits, fabric, on_run=on_run, timeout=timeout, judged=judged)
    return on_first(fabric, lambda: [_read_record(one.run_folder) for one in planned])


def finish(
    planned: Planned,
    digits: Digits,
    fabric: Fabric,
    *,
    on_run: OnRun,
    timeout: float,
    judged: bool,
) -> None:
    """Finish one run if it is not finished yet, as `finish_all` does.

    Args:
        planned: The run.
        digits: The real data.
        fabric: Where it runs.
        on_run: Called when it starts here.
        timeout: How long to wait for another process that holds it, in seconds: `AT_ONCE`,
            `FOR_EVER` or any other.
        judged: Whether samples are judged at its end.

    Raises:
        Timeout: Another process holds it.
        ForeignRunError: As for `finish_all`.
        CheckpointError: Likewise.
    """
    config, folder = planned.config, planned.run_folder
    with _holding(folder, fabric, timeout):
        is_finished, shorter = on_first(fabric, lambda: _look(planned))
        if is_finished:
            return
        run(
            config,
            folder,
            digits,
            fabric,
            preset=planned.preset,
            on_iteration=on_run(config),
            shorter=shorter,
            judged=judged,
            hypotheses_sha256=planned.hypotheses_sha256,
        )


@contextlib.contextmanager
def _holding(folder: RunFolder, fabric: Fabric, timeout: float) -> Iterator[None]:
    """Hold the run's lock, which the first process does for all processes of the run.

    Raises:
        Timeout: Another holds it, in every process.
    """
    lock = FileLock(folder.lock_path)

    def acquire() -> bool:
        folder.path.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=_PATIENCE if timeout == FOR_EVER else timeout)
        except Timeout:
            if timeout != FOR_EVER:
                raise
            return False  # so that the other processes of the run have an answer in time
        return True

    while not on_first(fabric, acquire):
        pass
    try:
        yield
    finally:
        lock.release()


def _look(planned: Planned) -> tuple[bool, RunConfig | None]:
    """Whether a run that is held is finished, and else which finished run it makes longer."""
    done = find_done(planned)
    if done is not None and done.config_hash == planned.config.config_hash:
        planned.run_folder.remove_leftovers()
        return True, None
    return False, done


def find_done(planned: Planned) -> RunConfig | None:
    """The configuration of the finished run in a run's folder: its own, or one of fewer iterations.

    Raises:
        ForeignRunError: The record is of another configuration, or it is damaged or forged.
    """
    folder, config = planned.run_folder, planned.config
    try:
        done = _read_record(folder).config
    except FileNotFoundError:
        return None
    if done.config_hash != config.config_hash:
        _check_extension(folder, done, config)
    return done


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
    path, remedy = folder.record_path, "Delete it: the run then goes on from its checkpoint."
    try:
        record = folder.read_record()
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        if fault["loc"] == ("schema_version",):
            raise ForeignRunError(
                f"{path} has a schema_version of another release of gaslayers: {fault['msg']}, "
                f"got {fault['input']!r}. Read it by that release, or choose another folder."
            ) from error
        raise ForeignRunError(f"{path} is not a readable record: {error}. {remedy}") from error
    if record.config_hash != record.config.config_hash:
        raise ForeignRunError(
            f"{path} was changed after it was written: its config_hash is not that of its config, "
            f"{record.config.config_hash}. {remedy}"
        )
    return record
