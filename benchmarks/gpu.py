"""What there is to know about gaslayers on a GPU, by one command, in at most eight minutes.

    python -m benchmarks.gpu

Three parts: the six cases of the study with their memory under four names, the tests of the suite
that need CUDA, and the lean paths against plain. Every piece of them has a process and a time limit
of its own; every part ends in time for the next. The record grows piece by piece: a second call
continues where the first one ended, and tries again what failed. Without a GPU,
``--device cpu --tiny`` shows in a minute that all of it runs.
"""

from __future__ import annotations

import json
import re
import signal
import sys
import time
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.gpu_markdown import to_markdown
from benchmarks.gpu_memory import WAYS
from benchmarks.gpu_tests import files_with_cuda_tests
from benchmarks.pieces import ROOT, Piece, UnfinishedError, run_command, work_through
from benchmarks.workloads import all_work
from gaslayers.models import CASES
from gaslayers.study.records import write_atomically

PYTHON = (sys.executable, "-m")
RECORDS = ROOT / "benchmarks" / "records"
TERMINATED = 143
PIECE_SECONDS = {"cases": 60.0, "tests": 90.0, "table": 60.0}
SHARES = {"cases": 0.4, "tests": 0.2, "table": 0.4}
"""Of the time, for each part in its order; what one leaves, the next may use."""


class Device(str, Enum):
    """Where it can run; a CPU is for trials."""

    cuda = "cuda"
    cpu = "cpu"


class Part(str, Enum):
    """What can be asked for alone."""

    cases = "cases"
    tests = "tests"
    table = "table"


def chosen_work(*, tiny: bool) -> list[str]:
    """The pieces of work in the table, those of most interest first; a small one for a trial."""
    if tiny:
        return ["inception_8, as_coded: frozen pass of D"]
    titles = [
        *(f"original, as_coded at {size}: pass of D" for size in (64, 128, 256)),
        "dense block, 64 + 12 x 32 channels, 3x3",
        *(title for title in all_work() if title.startswith("densenet121 block")),
        "inception 3 -> 64 at 64",
        "inception 64 -> 128 at 32",
    ]
    for case in CASES:
        titles += [f"{case}, as_coded: pass of D", f"{case}, as_coded: frozen pass of D"]
    titles += ["original, modern: pass of D", "original, modern: frozen pass of D"]
    return titles


def all_pieces(device: str, *, tiny: bool) -> list[Piece]:
    """Every piece of work, in the order in which it is done."""
    where = ("--device", device, *(("--tiny",) if tiny else ()))
    turns = ("--turns", "3") if tiny else ()
    cases = CASES[-1:] if tiny else CASES
    files = files_with_cuda_tests()
    commands = {
        "cases": {
            f"{case}, {way}": ("benchmarks.gpu_memory", case, way, *where)
            for case in cases
            for way in WAYS
        },
        "tests": {file: ("benchmarks.gpu_tests", file) for file in (files[:1] if tiny else files)},
        "table": {
            title: ("benchmarks.gpu_table", title, *turns, *where)
            for title in chosen_work(tiny=tiny)
        },
    }
    return [
        Piece(part, title, (*PYTHON, *command), PIECE_SECONDS[part])
        for part, works in commands.items()
        for title, command in works.items()
    ]


def look_at(device: str) -> dict[str, Any]:
    """What runs are described by, or the end of this one where there is no such device."""
    try:
        found = run_command((*PYTHON, "benchmarks.gpu_device", "--device", device), 60.0)
    except UnfinishedError as error:
        _give_up(f"PyTorch could not look at the {device} device: {error}.")
    if "device" not in found:
        _give_up(
            f"PyTorch {found['torch']} finds no CUDA device here; run this where there is one, or "
            "try it with `--device cpu --tiny`."
        )
    return found


def _give_up(sentence: str) -> None:
    typer.echo(f"benchmarks.gpu: {sentence}", err=True)
    raise typer.Exit(2)


def open_record(path: Path, found: dict[str, Any], *, tiny: bool) -> dict[str, Any]:
    """The record in this file, to go on with, or a new one."""
    new = {"run": found["run"], "device": found["device"], "tiny": tiny}
    if not path.exists():
        return new | {part: {} for part in SHARES} | {"unfinished": {}}
    old: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if _conditions(old) != _conditions(new):
        _give_up(f"{path} was measured under other conditions; name another file with `--out`.")
    return old


def _conditions(record: dict[str, Any]) -> list[Any]:
    """What has to be the same in all parts of a record."""
    return [record["device"], record["run"]["versions"], record["tiny"]]


def record_path(device: dict[str, Any]) -> Path:
    """Where the record of this device belongs: trials on a CPU are not published."""
    name = re.sub(r"[^a-z0-9]+", "-", device["name"].lower()).strip("-")
    return RECORDS / f"gpu-{name}.json" if device["kind"] == "cuda" else Path("gpu-trial.json")


def deadlines(start: float, seconds: float) -> dict[str, float]:
    """When each part has to end, so that all of them end within the seconds."""
    ends, share = {}, 0.0
    for part, own in SHARES.items():
        share += own
        ends[part] = start + share * seconds
    return ends


def _terminate(*_: object) -> None:
    raise SystemExit(TERMINATED)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    device: Annotated[Device, typer.Option(help="Where to run.")] = Device.cuda,
    tiny: Annotated[bool, typer.Option(help="One small piece of each kind: a trial.")] = False,
    part: Annotated[list[Part] | None, typer.Option(help="Repeatable; all by default.")] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="To end within.")] = 8.0,
    out: Annotated[
        Path | None, typer.Option(help="The JSON file; by default the device's record.")
    ] = None,
) -> None:
    """Measure, write one JSON record and print Markdown; go on where an earlier call ended."""
    start = time.monotonic()
    signal.signal(signal.SIGTERM, _terminate)  # so that the piece at work ends, too
    found = look_at(device.value)
    path = record_path(found["device"]) if out is None else out
    record = open_record(path, found, tiny=tiny)
    asked = {one.value for one in part or Part}

    def save() -> None:
        write_atomically(path, (json.dumps(record, indent=1) + "\n").encode())

    save()  # one that cannot be written is known before anything is measured
    work_through(
        [piece for piece in all_pieces(device.value, tiny=tiny) if piece.part in asked],
        record,
        save,
        deadlines=deadlines(start, 60 * minutes - 10),  # ten seconds to end and to print
        marks={"commit": found["run"]["commit"]},
    )
    print(to_markdown(record))


if __name__ == "__main__":
    app()
