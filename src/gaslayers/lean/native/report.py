"""What became of the kernels when the package was built, and which of them run here."""

from __future__ import annotations

import json
from typing import NamedTuple

import torch

from gaslayers.lean.native import compiling, norm_choice, pool_choice
from gaslayers.lean.native.kernels import load

_ROUNDS_OTHERWISE = "PyTorch's operators run: they round otherwise here"


class KernelReport(NamedTuple):
    """The kernels of this installation on this processor.

    Args:
        capability: What PyTorch takes the processor to have.
        running: The level that runs, or None.
        levels: By name: whether it was compiled, and else or if it is passed over why.
        families: By what they compute: whether they run, and else why not.
    """

    capability: str
    running: str | None
    levels: dict[str, str]
    families: dict[str, str]


def describe_kernels() -> KernelReport:
    """Look at the libraries, at the record of the build, and at what PyTorch rounds to."""
    loaded = load()
    levels = {}
    for level in compiling.levels():
        if not compiling.library_path(level).exists():
            levels[level] = f"not compiled: {_reason_of_build(level)}"
        elif level == loaded.level:
            levels[level] = "compiled, runs"
        elif level in loaded.refused:
            levels[level] = f"compiled, refused here: {loaded.refused[level]}"
        else:
            levels[level] = "compiled"
    families = dict.fromkeys(("pooling", "batch norm"), "PyTorch's operators run: no kernels")
    if loaded.kernels is not None:
        families = {
            "pooling": "runs" if pool_choice.are_exact() else _ROUNDS_OTHERWISE,
            "batch norm": "runs" if norm_choice.are_exact() else _ROUNDS_OTHERWISE,
        }
    capability = torch.backends.cpu.get_cpu_capability()
    return KernelReport(capability, loaded.level, levels, families)


def _reason_of_build(level: str) -> str:
    try:
        record = json.loads((compiling.FOLDER / compiling.RECORD).read_text(encoding="utf-8"))
    except OSError:
        return "this copy of the package was never built here"
    failures = record["failures"]
    if level not in failures:
        # Where nothing else is known, the failure of the level that every processor has.
        level = compiling.DEFAULT
    if level in failures:
        return str(failures[level])
    return "the sources have changed since: install the package anew"
