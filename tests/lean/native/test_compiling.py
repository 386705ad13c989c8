"""The compiled libraries: when they are made anew, and what a build does without a compiler."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from gaslayers.lean.native import compiling

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None,
    reason="compiles the kernels: needs Linux and a C compiler named cc",
)


@pytest.fixture
def sources(monkeypatch, tmp_path):
    """A folder of sources that compile quickly."""
    (tmp_path / "pool.c").write_text('#include "pool_loops.h"\n')
    (tmp_path / "pool_loops.h").write_text("int answer(void) { return 1; }\n")
    monkeypatch.setattr(compiling, "FOLDER", tmp_path)
    monkeypatch.setattr(compiling, "SOURCES", ("pool.c", "pool_loops.h"))
    return tmp_path


def test_a_library_for_each_capability_is_compiled_once(sources) -> None:
    made = compiling.compile_libraries()
    assert compiling.library_path("DEFAULT") in made
    assert sorted(made) == sorted(sources.glob("*.so"))
    times = [path.stat().st_mtime_ns for path in made]
    assert compiling.compile_libraries() == made
    assert [path.stat().st_mtime_ns for path in made] == times


def test_libraries_of_other_sources_are_not_found_and_are_replaced(sources) -> None:
    before = compiling.compile_libraries()
    (sources / "pool_loops.h").write_text("int answer(void) { return 2; }\n")
    assert not compiling.library_path("DEFAULT").exists()
    after = compiling.compile_libraries()
    assert not any(path.exists() for path in before)
    assert all(path.exists() for path in after)


def test_no_compiler_is_an_error_that_leaves_nothing_behind(sources, monkeypatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(OSError, match="no-such-compiler"):
        compiling.compile_libraries()
    # One that fails halfway.
    monkeypatch.setenv(
        "CC", """sh -c 'for word; do last="$out"; out="$word"; done; touch "$last"; false' cc"""
    )
    with pytest.raises(subprocess.CalledProcessError):
        compiling.compile_libraries()
    assert {path.name for path in sources.iterdir()} == set(compiling.SOURCES)


def test_other_systems_are_refused(sources, monkeypatch) -> None:
    monkeypatch.setattr(compiling.sys, "platform", "darwin")
    with pytest.raises(OSError, match="darwin"):
        compiling.compile_libraries()
    assert not list(sources.glob("*.so"))
