"""Compare a wheel with the source tree: all of the package, and nothing but the package.

Usage: python check_wheel.py WHEEL TREE
"""

from __future__ import annotations

import sys
from pathlib import Path
from zipfile import ZipFile


def main(wheel: str, tree: str) -> str | None:
    """Return what is wrong, or None."""
    source = Path(tree, "src")
    expected = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    packed = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    if expected == packed and "gaslayers/py.typed" in packed:
        return None
    missing, foreign = sorted(expected - packed), sorted(packed - expected)
    return f"{wheel}: missing {missing}, not of the package {foreign}"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
