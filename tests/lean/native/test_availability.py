"""When kernels of our own run, and on how many threads."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

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
    # An earlier test may have loaded what imports it.
    monkeypatch.delitem(sys.modules, "gaslayers.lean.native._pool_kernels", raising=False)
    assert not availability.takes(X)


@pytest.mark.usefixtures("_fresh_answer")
@pytest.mark.parametrize(
    "error",
    [
        OSError("libtorch_cpu.so: cannot open shared object file"),  # not on Linux
        AttributeError("undefined symbol: GOMP_parallel"),  # another OpenMP
        RuntimeError("cannot cache function: no locator available"),  # nowhere to write
    ],
)
def test_where_kernels_cannot_be_compiled_nothing_is_taken(monkeypatch, error) -> None:
    def fail(_name: str) -> None:
        raise error

    monkeypatch.setattr(availability.importlib, "import_module", fail)
    assert not availability.takes(X)


@pytest.fixture
def _threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_threads_as_before")
@pytest.mark.parametrize("threads", [1, 2, 7])  # more than there are cores or rows, too
def test_kernels_run_on_as_many_threads_as_pytorch(monkeypatch, threads) -> None:
    pytest.importorskip("numba", reason="the kernels are numba's: pip install 'gaslayers[fast]'")
    from gaslayers.lean.native import _threads, pool

    seen = []
    original = _threads._run_parallel
    monkeypatch.setattr(
        _threads, "_run_parallel", lambda *args: (seen.append(args[2]), original(*args))
    )
    x = torch.randn(1, 3, 10, 5).contiguous(memory_format=torch.channels_last)
    expected = pool.pool(x, 0.0, ceil_mode=True)
    torch.set_num_threads(threads)
    found = pool.pool(x, 0.0, ceil_mode=True)
    assert seen[-1] == threads
    assert all(map(torch.equal, found, expected))
    assert torch.equal(found[0], F.max_pool2d(x.relu(), 2, ceil_mode=True))


@pytest.mark.skipif(sys.platform != "linux", reason="the libraries of a process are read in /proc")
def test_kernels_bring_no_threads_of_their_own() -> None:
    pytest.importorskip("numba", reason="the kernels are numba's: pip install 'gaslayers[fast]'")
    script = """
import torch
from pathlib import Path
from gaslayers.lean.native import pool
def openmp():
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {line.split()[-1] for line in lines if "omp" in Path(line.split()[-1]).name}
before = openmp()
pool.pool(torch.zeros(1, 2, 4, 4).to(memory_format=torch.channels_last), 0.0, ceil_mode=False)
raise SystemExit(openmp() != before)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_importing_the_package_does_not_load_numba() -> None:
    script = "import sys, gaslayers; raise SystemExit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
