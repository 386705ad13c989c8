"""The libraries that the kernels are compiled to when the package is built, and their names.

The build runs this file without the package, so it imports the standard library alone.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FOLDER = Path(__file__).parent
SOURCES = (
    *("image_gradient.c", "image_stage.c", "multiply_add.h"),
    *("norm.c", "norm_loops.h", "norm_pool_loops.h", "vectors.h"),
    *("pool.c", "pool_codes.h", "pool_loops.h", "pool_windows.h", "threads.c", "threads.h"),
)

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
_X86_LEVELS = {"AVX512": "x86-64-v4", "AVX2": "x86-64-v3"}


def library_path(capability: str) -> Path:
    """The library for processors of this capability, which bears a digest of what it is made from.

    So one that was compiled from anything else, as by an older checkout, is not found.
    """
    parts = [(FOLDER / name).read_bytes() for name in SOURCES]
    digest = hashlib.sha256(b"".join([*parts, *map(str.encode, _FLAGS)]))
    return FOLDER / f"kernels-{capability.lower()}-{digest.hexdigest()[:12]}.so"


def compile_libraries() -> list[Path]:
    """Compile one library a capability beside the sources, and remove older ones.

    Raises:
        OSError: If there is no C compiler, by the name in the variable CC or ``cc``.
        subprocess.CalledProcessError: If it fails.
    """
    if sys.platform != "linux":
        raise OSError(f"kernels are for Linux, got {sys.platform}")
    targets: dict[str, tuple[str, ...]] = {"DEFAULT": ()}
    if sysconfig.get_platform() == "linux-x86_64":
        targets |= {name: (f"-march={level}",) for name, level in _X86_LEVELS.items()}
    made = {library_path(capability): flags for capability, flags in targets.items()}
    missing = {library: flags for library, flags in made.items() if not library.exists()}
    with ThreadPoolExecutor() as threads:  # each of which waits for a compiler
        list(threads.map(_compile, missing.keys(), missing.values()))
    for library in FOLDER.glob("*.so"):
        if library not in made:
            library.unlink()
    return list(made)


def _compile(library: Path, flags: tuple[str, ...]) -> None:
    """In two steps, so that a library that is there is whole."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    unfinished = library.with_suffix(f".{os.getpid()}.part")
    try:
        units = [str(FOLDER / name) for name in SOURCES if name.endswith(".c")]
        command = [*compiler, *_FLAGS, *flags, "-o", str(unfinished), *units, "-lm"]
        subprocess.run(command, check=True)
        unfinished.replace(library)
    finally:
        unfinished.unlink(missing_ok=True)
