"""The libraries that the kernels are compiled to when the package is built, and their names.

The build runs this file without the package, so it imports the standard library alone.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shlex
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent
SOURCES = (
    *("bits.c", "bits_loops.h", "rectifier_loops.h", "places.c"),
    *("image_gradient.c", "image_stage.c", "multiply_add.h"),
    *("norm.c", "norm_loops.h", "norm_pool_loops.h", "vectors.h"),
    *("pool.c", "pool_codes.h", "pool_loops.h", "pool_windows.h", "threads.c", "threads.h"),
)
RECORD = "built.json"
"""What became of each level when the package was built."""

# Vectors, but no arithmetic other than what is written: neither fused nor reordered.
_FLAGS = (
    "-std=c11",
    "-O3",
    "-fPIC",
    "-shared",
    "-fno-trapping-math",
    "-ffp-contract=off",
    "-Wno-psabi",
)


class Level(NamedTuple):
    """A kind of processors that kernels are compiled for.

    Args:
        march: The compiler's name for it.
        features: What /proc/cpuinfo of such a processor names.
    """

    march: str
    features: frozenset[str]


_V3 = frozenset({"abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"})
_V4 = _V3 | {"avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"}
_X86_LEVELS = {"AVX512": Level("x86-64-v4", _V4), "AVX2": Level("x86-64-v3", _V3)}
DEFAULT = "DEFAULT"
"""The level that every processor of a kind has."""


def levels() -> dict[str, Level | None]:
    """By the names that PyTorch has for them, the best one first."""
    named = _X86_LEVELS if sysconfig.get_platform() == "linux-x86_64" else {}
    return {**named, DEFAULT: None}


class Build(NamedTuple):
    """What became of each level.

    Args:
        libraries: Those that there are, by level.
        failures: Why there is none of the others.
    """

    libraries: dict[str, Path]
    failures: dict[str, str]


def library_path(level: str) -> Path:
    """The library for processors of this level, which bears a digest of what it is made from.

    So one that was compiled from anything else, as by an older checkout, is not found.
    """
    return FOLDER / f"kernels-{level.lower()}-{source_digest()}.so"


def source_digest() -> str:
    """Of everything that the libraries are made from."""
    parts = [(FOLDER / name).read_bytes() for name in SOURCES]
    digest = hashlib.sha256(b"".join([*parts, *map(str.encode, _FLAGS)]))
    return digest.hexdigest()[:12]


def compile_libraries() -> Build:
    """Compile a library per level beside the sources, remove older ones, and record what became.

    A level that the compiler refuses leaves the others. The compiler is named by the variable CC,
    or ``cc``.
    """
    made: dict[str, Path] = {}
    failures: dict[str, str] = {}
    if sys.platform == "linux":
        targets = levels()
        paths = {name: library_path(name) for name in targets}
        with ThreadPoolExecutor() as threads:  # each of which waits for a compiler
            faults = list(threads.map(_compile, paths.values(), targets.values()))
        for (name, path), fault in zip(paths.items(), faults, strict=True):
            if fault is None:
                made[name] = path
            else:
                failures[name] = fault
    else:
        failures[DEFAULT] = f"kernels are for Linux, got {sys.platform}"
    for library in FOLDER.glob("*.so"):
        if library not in made.values():
            library.unlink()
    record = {"digest": source_digest(), "failures": failures}
    (FOLDER / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return Build(made, failures)


def _compile(library: Path, level: Level | None) -> str | None:
    """Compile one, where it is missing; what went wrong, if anything did.

    In two steps, so that a library that is there is whole.
    """
    if library.exists():
        return None
    compiler = shlex.split(os.environ.get("CC", "cc"))
    unfinished = library.with_suffix(f".{os.getpid()}.part")
    units = [str(FOLDER / name) for name in SOURCES if name.endswith(".c")]
    flags = [*_FLAGS, *([] if level is None else [f"-march={level.march}"])]
    command = [*compiler, *flags, "-o", str(unfinished), *units, "-lm"]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, errors="replace")
        unfinished.replace(library)
    except subprocess.CalledProcessError as error:
        return f"{shlex.join(compiler)} refused: {_summary(error)}"
    except OSError as error:
        return f"no compiler: {error}"
    finally:
        unfinished.unlink(missing_ok=True)
    return None


def _summary(error: subprocess.CalledProcessError) -> str:
    """The compiler's first error, or with what status it ended."""
    lines = [line.strip() for line in error.stderr.splitlines()]
    named = [line for line in lines if "error" in line.lower()]
    return (named or [f"exit status {error.returncode}"])[0][:200]


@functools.cache
def missing_features(level: str) -> tuple[str, ...]:
    """What processors of this level have, and this one has not, as far as the system says."""
    target = levels().get(level)
    if target is None:
        return ()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return tuple(sorted(target.features - set(flags.split()))) if flags else ()
