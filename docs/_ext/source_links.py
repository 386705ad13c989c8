"""Where a documented name stands in the source: the file and line that its links lead to."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import gaslayers

PACKAGE = Path(gaslayers.__file__).parent


def find_source(module: str, name: str) -> str | None:
    """``gaslayers``, ``DenseBlock`` -> ``src/gaslayers/blocks/dense.py#L20``; None: it has none."""
    found = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if isinstance(found, property):
        found = found.fget
    try:
        path = Path(inspect.getfile(inspect.unwrap(found)))
        _, line = inspect.getsourcelines(found)
    except TypeError:  # data, which remembers no place
        return None
    if not path.is_relative_to(PACKAGE):
        return None  # inherited from another package
    return f"src/gaslayers/{path.relative_to(PACKAGE).as_posix()}#L{line}"
