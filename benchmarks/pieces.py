"""Pieces of work in processes of their own, under time limits, with a record that grows by them.

A piece that hangs or dies costs its own result and nothing else. What is finished is in the record
and is not done again. What is not finished is named there with the reason, and the next call tries
it again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LEAST_SECONDS = 5.0  # a process that imports torch does nothing in less
SECONDS_TO_DIE = 5.0


class UnfinishedError(RuntimeError):
    """A piece ended without a result, for the reason that this says."""


@dataclasses.dataclass(frozen=True)
class Piece:
    """One piece of work.

    Args:
        part: The part of the record that its result belongs to.
        title: Its name there.
        command: Run with ``--out FILE``, it writes its result as a JSON object.
        seconds: What it may take at most.
    """

    part: str
    title: str
    command: tuple[str, ...]
    seconds: float

    @property
    def name(self) -> str:
        """Its name among all pieces."""
        return f"{self.part}: {self.title}"


def run_command(command: tuple[str, ...], seconds: float) -> dict[str, Any]:
    """What a command writes to the file that it is given.

    Raises:
        UnfinishedError: It took too long, failed, or wrote nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, said = Path(folder, "result.json"), Path(folder, "said.txt")
        with said.open("wb") as file:
            process = subprocess.Popen(
                [*command, "--out", str(out)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that its own children end with it
            )
            try:
                code = process.wait(seconds)
            except subprocess.TimeoutExpired:
                raise UnfinishedError(f"it took more than {seconds:.0f} s") from None
            finally:
                _end(process)
        if code or not out.exists():
            lines = said.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            last = lines[-1][:200] if lines else "it said nothing"
            raise UnfinishedError(f"exit status {code}: {last}")
        result: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        return result


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    # One that waits for a driver which does not answer cannot be killed, nor waited for.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(SECONDS_TO_DIE)


def work_through(
    pieces: Iterable[Piece],
    record: dict[str, Any],
    save: Callable[[], None],
    *,
    deadlines: Mapping[str, float],
    marks: Mapping[str, Any],
) -> None:
    """Do every piece that the record lacks, and save the record after each.

    Args:
        pieces: In the order in which they are done.
        record: Has a dict for each part, and ``"unfinished"``, a reason for each piece's name.
        save: Writes the record.
        deadlines: When each part has to end, in seconds of `time.monotonic`.
        marks: Put into every result.
    """
    for piece in pieces:
        done = record[piece.part]
        if piece.title in done:
            continue
        print(piece.name, flush=True)
        started = time.monotonic()
        left = deadlines[piece.part] - started
        try:
            if left < LEAST_SECONDS:
                raise UnfinishedError("no time was left")
            result = run_command(piece.command, min(piece.seconds, left))
        except UnfinishedError as error:
            print(f"  {error}", flush=True)
            record["unfinished"][piece.name] = str(error)
        else:
            done[piece.title] = {**result, **marks, "wall_seconds": time.monotonic() - started}
            record["unfinished"].pop(piece.name, None)
        save()
