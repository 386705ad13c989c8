"""Make the digits embedded in the package from an MNIST folder in torchvision's layout.

    python tools/embed_digits.py ROOT

The same digits give the same file, byte for byte, wherever Python uses the same zlib.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gaslayers.study.data import load_digits
from gaslayers.study.data.digits import EMBEDDED, EMBEDDED_PATH

COUNT = 10_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file; 1 where it is not the one that the package expects."""
    parser = argparse.ArgumentParser(description="Embed the first MNIST training digits.")
    parser.add_argument("root", type=Path, help="folder that holds MNIST/raw")
    parser.add_argument("--output", type=Path, default=EMBEDDED_PATH, help="default: %(default)s")
    options = parser.parse_args(arguments)

    digits = load_digits(options.root)
    with options.output.open("wb") as file:
        np.savez_compressed(
            file,
            images=digits.images[:COUNT].numpy(),
            labels=digits.labels[:COUNT].numpy().astype(np.uint8),
        )

    content = options.output.read_bytes()
    found = (len(content), hashlib.sha256(content).hexdigest())
    sys.stdout.write(f"{options.output}: {found[0]} bytes, SHA-256 {found[1]}\n")
    if found != (EMBEDDED.size, EMBEDDED.sha256):
        sys.stderr.write(
            f"gaslayers expects {EMBEDDED.size} bytes, SHA-256 {EMBEDDED.sha256}. Another zlib "
            "packs the same digits differently; to embed this file, change EMBEDDED in "
            "gaslayers/study/data/digits.py.\n"
        )
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
