"""When kernels of our own run, and on how many threads."""

from __future__ import annotations

import subprocess
import sys
from struct import Struct

import pytest
import torch
import torch.nn.functional as F

from gaslayers import DownBlock
from gaslayers.lean.native import availability, pool
from gaslayers.lean.native import kernels as kernels_module
from gaslayers.lean.native.compiling import library_path
from gaslayers.lean.native.kernels import Kernels, kernels, load
from gaslayers.lean.native.report import describe_kernels
from gaslayers.lean.native.structures import STRUCTURES
from tests.lean.native.needs import CAPABILITIES, needs_kernels
from tests.lean.twins import twin_of

X = torch.zeros(1, 2, 4, 4)


@pytest.fixture
def _fresh_answer():
    """Ask anew whether there are kernels, now and afterwards."""
    caches = (availability.are_compiled, load)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.mark.usefixtures("_fresh_answer")
def test_without_a_library_nothing_is_taken(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(
        "gaslayers.lean.native.kernels.library_path", lambda name: tmp_path / f"pool-{name}.so"
    )
    assert not availability.takes(X)


@pytest.mark.usefixtures("_fresh_answer")
@pytest.mark.parametrize(
    "error",
    [
        OSError("libtorch_cpu.so: cannot open shared object file"),  # not on Linux
        AttributeError("undefined symbol: GOMP_parallel"),  # another OpenMP
    ],
)
def test_where_kernels_cannot_run_nothing_is_taken(monkeypatch, error) -> None:
    def fail(*_args) -> None:
        raise error

    monkeypatch.setattr(Kernels, "__init__", fail)
    assert not availability.takes(X)


@needs_kernels
@pytest.mark.usefixtures("_fresh_answer")
def test_a_processor_without_a_library_of_its_own_takes_the_one_for_all(monkeypatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "SVE256")
    assert availability.takes(X)


@needs_kernels
@pytest.mark.usefixtures("_fresh_answer")
@pytest.mark.skipif(len(CAPABILITIES) < 2, reason="this processor has one level alone")
@pytest.mark.parametrize("fault", ["not there", "no library", "not of this processor"])
def test_the_best_level_that_is_there_and_loads_takes_the_place_of_one_that_is_not(
    monkeypatch, tmp_path, fault
) -> None:
    best = CAPABILITIES[-1]
    other = tmp_path / "other.so"
    if fault == "no library":
        other.write_bytes(b"no library")
    if fault == "not of this processor":
        lacking = {best: ("warp-drive",)}
        monkeypatch.setattr(
            kernels_module, "missing_features", lambda level: lacking.get(level, ())
        )
    else:
        monkeypatch.setattr(
            kernels_module,
            "library_path",
            lambda level: other if level == best else library_path(level),
        )
    assert load().level == CAPABILITIES[-2]
    assert list(load().refused) == [best]
    assert availability.takes(X)


@needs_kernels
@pytest.mark.usefixtures("_fresh_answer")
def test_structures_of_another_size_are_refused(monkeypatch) -> None:
    monkeypatch.setitem(STRUCTURES, "pool_call", Struct("=4Q"))
    assert not availability.are_compiled()
    assert not availability.takes(X)
    assert "struct pool_call has" in load().refused["DEFAULT"]
    report = describe_kernels()
    assert report.running is None
    assert "32 here" in report.levels["DEFAULT"]
    assert report.families["pooling"] == "PyTorch's operators run: no kernels"
    stage = DownBlock(3, 8).to(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    assert torch.equal(stage(x), twin_of(stage)(x))


@pytest.fixture
def _threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@needs_kernels
@pytest.mark.usefixtures("_threads_as_before")
@pytest.mark.parametrize("threads", [1, 2, 7])  # more than there are cores or rows, too
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_kernels_run_on_as_many_threads_as_pytorch(monkeypatch, threads, layout) -> None:
    seen = []
    original = kernels()._functions["pool", torch.float32]

    def spy(call, threads):
        seen.append(threads)
        return original(call, threads)

    monkeypatch.setitem(kernels()._functions, ("pool", torch.float32), spy)
    x = torch.randn(1, 3, 10, 5).contiguous(memory_format=layout)
    expected = pool.pool(x, 0.0, layout, ceil_mode=True)
    torch.set_num_threads(threads)
    found = pool.pool(x, 0.0, layout, ceil_mode=True)
    assert seen[-1] == threads
    assert all(map(torch.equal, found, expected))
    assert torch.equal(found[0], F.max_pool2d(x.relu(), 2, ceil_mode=True))


@needs_kernels
def test_kernels_bring_no_threads_of_their_own() -> None:
    script = """
import torch
from pathlib import Path
from gaslayers.lean.native import pool
def openmp():
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {line.split()[-1] for line in lines if "omp" in Path(line.split()[-1]).name}
before = openmp()
pool.pool(torch.zeros(1, 2, 4, 4), 0.0, torch.contiguous_format, ceil_mode=False)
raise SystemExit(openmp() != before)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
