"""The compiled libraries: when they are made anew, and what a build does without a compiler."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

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
    assert list(made.libraries) == list(compiling.levels())
    assert not made.failures
    assert sorted(made.libraries.values()) == sorted(sources.glob("*.so"))
    times = [path.stat().st_mtime_ns for path in made.libraries.values()]
    assert compiling.compile_libraries() == made
    assert [path.stat().st_mtime_ns for path in made.libraries.values()] == times


def test_libraries_of_other_sources_are_not_found_and_are_replaced(sources) -> None:
    before = compiling.compile_libraries()
    (sources / "pool_loops.h").write_text("int answer(void) { return 2; }\n")
    assert not compiling.library_path("DEFAULT").exists()
    after = compiling.compile_libraries()
    assert not any(path.exists() for path in before.libraries.values())
    assert all(path.exists() for path in after.libraries.values())


def _compiler(folder: Path, script: str) -> str:
    """A command that runs this script, which may call the real one."""
    path = folder / "compiler"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _record(sources: Path) -> dict[str, str]:
    return json.loads((sources / compiling.RECORD).read_text())["failures"]


def test_without_a_compiler_the_record_alone_says_so(sources, monkeypatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    made = compiling.compile_libraries()
    assert not made.libraries
    assert list(made.failures) == list(compiling.levels())
    assert all("no-such-compiler" in reason for reason in made.failures.values())
    assert _record(sources) == made.failures
    assert _names(sources) == {*compiling.SOURCES, compiling.RECORD}


def test_a_compiler_that_fails_halfway_leaves_nothing_behind(
    sources, monkeypatch, tmp_path_factory
) -> None:
    halfway = """for word; do case "$word" in *.part) touch "$word";; esac; done
echo "pool.c:1: error: halfway" >&2
exit 3"""
    monkeypatch.setenv("CC", _compiler(tmp_path_factory.mktemp("bin"), halfway))
    made = compiling.compile_libraries()
    assert not made.libraries
    assert all("pool.c:1: error: halfway" in reason for reason in made.failures.values())
    assert _names(sources) == {*compiling.SOURCES, compiling.RECORD}


@pytest.mark.skipif(len(compiling.levels()) < 2, reason="one level alone on this processor")
@pytest.mark.parametrize("refused", ["AVX512", "AVX2"])
def test_a_level_that_the_compiler_refuses_leaves_the_others(
    sources, monkeypatch, tmp_path_factory, refused
) -> None:
    march = compiling.levels()[refused].march
    script = f"""case " $* " in *" -march={march} "*)
    echo "cc1: error: bad value ('{march}') for '-march=' switch" >&2; exit 1;;
esac
exec cc "$@\""""
    monkeypatch.setenv("CC", _compiler(tmp_path_factory.mktemp("bin"), script))
    made = compiling.compile_libraries()
    assert set(made.libraries) == set(compiling.levels()) - {refused}
    assert all(path.exists() for path in made.libraries.values())
    assert list(made.failures) == [refused]
    assert f"bad value ('{march}')" in made.failures[refused]
    assert _record(sources) == made.failures
    # A newer compiler makes up for it.
    monkeypatch.delenv("CC")
    assert list(compiling.compile_libraries().libraries) == list(compiling.levels())
    assert not _record(sources)


def test_other_systems_are_refused(sources, monkeypatch) -> None:
    monkeypatch.setattr(compiling.sys, "platform", "darwin")
    made = compiling.compile_libraries()
    assert made.failures == {"DEFAULT": "kernels are for Linux, got darwin"}
    assert not list(sources.glob("*.so"))


def test_a_processor_is_asked_for_what_a_level_takes(monkeypatch) -> None:
    level = compiling.Level("x", frozenset({"fma", "warp-drive", "antigravity"}))
    monkeypatch.setattr(compiling, "levels", lambda: {"BEST": level, "DEFAULT": None})
    compiling.missing_features.cache_clear()
    assert compiling.missing_features("DEFAULT") == ()
    if "flags" in Path("/proc/cpuinfo").read_text():
        assert {"warp-drive", "antigravity"} <= set(compiling.missing_features("BEST"))
    compiling.missing_features.cache_clear()
