"""The GPU benchmark as a command, and one trial of it for all tests that look at its record."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from benchmarks import gpu


@pytest.fixture(scope="session")
def run_benchmark():
    """Runs the command in this process; its pieces have processes of their own."""

    def run_benchmark(*arguments):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(gpu.signal, "signal", lambda *_: None)  # whose signals are pytest's
            return CliRunner().invoke(gpu.app, arguments, catch_exceptions=False)

    return run_benchmark


@pytest.fixture(scope="session")
def trial(tmp_path_factory, run_benchmark):
    """The trial that the command's help speaks of: its output and its record."""
    out = tmp_path_factory.mktemp("trial") / "deep" / "trial.json"
    ended = run_benchmark("--device", "cpu", "--tiny", "--out", str(out))
    assert ended.exit_code == 0, ended.output
    record = json.loads(out.read_text(encoding="utf-8"))
    return SimpleNamespace(out=out, stdout=ended.stdout, record=record)


@pytest.fixture
def invoke(monkeypatch, run_benchmark):
    """Runs the command with a device that need not be there, and with these pieces."""

    def invoke(*arguments, name="NVIDIA Some GPU", kind="cuda", pieces=()):
        run = {"versions": {}, "commit": "c", "summary": "a machine."}
        found = {"run": run, "device": {"name": name, "kind": kind}}
        monkeypatch.setattr(gpu, "look_at", lambda device: found)
        monkeypatch.setattr(gpu, "all_pieces", lambda *_args, **_options: list(pieces))
        return run_benchmark(*arguments)

    return invoke
