"""Pieces of work that hang, fail or are killed, and a record that loses nothing finished."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import pieces
from benchmarks.pieces import Piece, UnfinishedError, run_command, work_through

WRITE = "import sys, json; json.dump({'value': 7}, open(sys.argv[-1], 'w'))"


def command(code):
    return (sys.executable, "-c", code)


def piece(title, code=WRITE, seconds=30.0):
    return Piece("part", title, command(code), seconds)


@pytest.fixture
def work():
    """Works through pieces with a record in memory; what was saved is kept."""

    def work(asked, record, *, seconds=60.0):
        saved = []
        work_through(
            asked,
            record,
            lambda: saved.append(json.dumps(record)),
            deadlines={"part": time.monotonic() + seconds},
            marks={"commit": "c"},
        )
        return saved

    return work


@pytest.fixture
def record():
    return {"part": {}, "unfinished": {}}


def test_result_is_what_the_command_writes():
    assert run_command(command(WRITE), 30.0) == {"value": 7}


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise KeyError('gone')", r"exit status 1: KeyError: 'gone'"),
        ("raise SystemExit(3)", r"exit status 3: it said nothing"),
        ("import os; os.abort()", r"exit status -6"),
        ("print('all is well')", r"exit status 0: all is well"),  # but nothing was written
    ],
)
def test_command_without_a_result_says_why(code, said):
    with pytest.raises(UnfinishedError, match=said):
        run_command(command(code), 30.0)


def is_alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_what_hangs_ends_with_all_that_it_started(tmp_path):
    note = tmp_path / "pid"
    code = (
        "import subprocess, sys, time, pathlib\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"pathlib.Path({str(note)!r}).write_text(str(child.pid))\n"
        "time.sleep(60)"
    )
    started = time.monotonic()
    with pytest.raises(UnfinishedError, match=r"it took more than 2 s"):
        run_command(command(code), 2.0)
    assert time.monotonic() - started < 10
    for _ in range(50):
        if not is_alive(int(note.read_text())):
            break
        time.sleep(0.1)
    assert not is_alive(int(note.read_text()))


@pytest.mark.filterwarnings("ignore:.*is still running:ResourceWarning")  # on purpose
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # which that is
def test_process_that_cannot_be_killed_is_left_behind(monkeypatch):
    monkeypatch.setattr(pieces, "SECONDS_TO_DIE", 0.2)
    monkeypatch.setattr(pieces.os, "killpg", lambda *_: None)
    with pytest.raises(UnfinishedError, match=r"it took more than 1 s"):
        run_command(command("import time; time.sleep(4)"), 1.0)


def test_failure_is_named_and_tried_again_and_the_rest_is_not(work, record):
    asked = [piece("good"), piece("bad", "raise KeyError('gone')"), piece("last")]
    saved = work(asked, record)
    assert list(record["part"]) == ["good", "last"]
    assert record["unfinished"] == {"part: bad": "exit status 1: KeyError: 'gone'"}
    assert [json.loads(text)["part"].keys() for text in saved] == [
        {"good"},
        {"good"},
        {"good", "last"},
    ]
    before = json.loads(json.dumps(record))
    work([piece("good", "raise KeyError"), piece("bad"), piece("last", "raise KeyError")], record)
    assert record["part"]["good"] == before["part"]["good"]
    assert record["part"]["bad"]["value"] == 7
    assert record["part"]["bad"]["commit"] == "c"
    assert record["unfinished"] == {}


def test_piece_gets_no_more_than_what_is_left_of_its_part(work, record, monkeypatch):
    monkeypatch.setattr(pieces, "LEAST_SECONDS", 0.5)
    slow = "import time; time.sleep(30)"
    started = time.monotonic()
    work([piece("slow", slow), piece("late")], record, seconds=1.0)
    assert time.monotonic() - started < 10
    assert record["unfinished"] == {
        "part: slow": "it took more than 1 s",
        "part: late": "no time was left",
    }


# The command with two pieces of its own: one that ends at once, and one that does not.
SCRIPT = """
import sys
from benchmarks import gpu
from benchmarks.pieces import Piece
run = {"versions": {}, "commit": "c", "summary": "a machine."}
gpu.look_at = lambda device: {"run": run, "device": {"name": "a device", "kind": "cuda"}}
gpu.all_pieces = lambda *_args, **_options: [
    Piece("tests", title, (sys.executable, "-c", code), 60.0) for title, code in @CODES
]
gpu.app()
"""
COUNTS = {"passed": 1, "failed": 0, "skipped": 0, "failures": {}}
COUNT = f"import sys, json; json.dump({COUNTS}, open(sys.argv[-1], 'w'))"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 143)]
)
def test_killed_run_loses_nothing_that_is_finished(tmp_path, invoke, sent, code):
    out, note, script = (tmp_path / name for name in ("record.json", "pid", "script.py"))
    hang = f"import os, pathlib, time; pathlib.Path({str(note)!r}).write_text(str(os.getpid()))"
    codes = [("quick", COUNT), ("slow", f"{hang}; time.sleep(60)")]
    script.write_text(SCRIPT.replace("@CODES", repr(codes)))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        [sys.executable, str(script), "--out", str(out)],
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    while not (note.exists() and note.read_text()):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(sent)
    assert process.wait(30) == code
    at_work = int(note.read_text())
    if sent == signal.SIGTERM:
        assert not is_alive(at_work)
    elif is_alive(at_work):
        os.kill(at_work, signal.SIGKILL)  # whom nobody was left to end
    finished = json.loads(out.read_text())["tests"]
    assert list(finished) == ["quick"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    again = [Piece("tests", title, command(COUNT), 60.0) for title in ("quick", "slow")]
    assert invoke("--out", str(out), name="a device", pieces=again).exit_code == 0
    tests = json.loads(out.read_text())["tests"]
    assert list(tests) == ["quick", "slow"]
    assert tests["quick"] == finished["quick"]
