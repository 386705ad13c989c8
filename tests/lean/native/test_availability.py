"""When kernels of our own run, and on how many threads."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from gaslayers.lean.native import availability

X = torch.zeros(1, 2, 4, 4).contiguous(memory_format=torch.channels_last)


@pytest.fixture
def _fresh_answer():
    """Ask anew whether numba is installed, now and afterwards."""
    availability.is_installed.cache_clear()
    yield
    availability.is_installed.cache_clear()


@pytest.mark.usefixtures("_fresh_answer")
def test_without_numba_nothing_is_taken(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)  # an import of it fails
    assert not availability.takes(X)


@pytest.mark.usefixtures("_fresh_answer")
def test_without_a_folder_for_compiled_code_nothing_is_taken(monkeypatch) -> None:
    def refuse(name: str) -> None:
        raise RuntimeError(f"cannot cache function in {name}: no locator available")

    monkeypatch.setattr(availability.importlib, "import_module", refuse)
    assert not availability.takes(X)


@pytest.mark.usefixtures("_fresh_answer")
def test_threads_that_several_callers_may_not_use_are_not_used(monkeypatch) -> None:
    numba = pytest.importorskip("numba", reason="asks numba for its threads")
    monkeypatch.setattr(numba.config, "THREADING_LAYER", "workqueue")
    assert not availability.takes(X)


def test_kernels_run_on_as_many_threads_as_pytorch(monkeypatch) -> None:
    numba = pytest.importorskip("numba", reason="the kernels are numba's")
    from gaslayers.lean.native import _pool_kernels

    before, seen = numba.get_num_threads(), []
    for threads in (1, before, 10_000):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        _pool_kernels.run(lambda: seen.append(numba.get_num_threads()))
    assert seen == [1, before, numba.config.NUMBA_NUM_THREADS]
    assert numba.get_num_threads() == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_a_forked_process_uses_pytorch_alone() -> None:
    pytest.importorskip("numba", reason="without numba there is nothing to switch off")
    script = """
import os, torch
from gaslayers.lean.native import availability
x = torch.zeros(1, 2, 4, 4).contiguous(memory_format=torch.channels_last)
before = availability.takes(x)
child = os.fork()
if child == 0:
    os._exit(0 if before and not availability.takes(x) else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    command = [sys.executable, "-W", "ignore", "-c", script]
    assert subprocess.run(command, check=False).returncode == 0


def test_importing_the_package_does_not_load_numba() -> None:
    script = "import sys, gaslayers; raise SystemExit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
