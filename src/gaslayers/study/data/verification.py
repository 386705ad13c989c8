"""Data files are compared with their known size and SHA-256 before they are interpreted."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ExpectedFile:
    """What a data file must be.

    Args:
        name: File name, without a folder.
        size: Size in bytes.
        sha256: SHA-256 of the content, in hexadecimal.
    """

    name: str
    size: int
    sha256: str

    def fault_of(self, path: Path) -> str | None:
        """What ``path`` is instead of the expected file, in words; None where it is that file."""
        if not path.is_file():
            return "no such file"
        size = path.stat().st_size
        if size != self.size:
            return f"{size} bytes{' (truncated)' if size < self.size else ''}"
        # hashlib.file_digest would read in pieces, but came with Python 3.11.
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return None if digest == self.sha256 else f"SHA-256 {digest}"


def verify_file(path: Path, expected: ExpectedFile, *, owner: str, remedy: str) -> None:
    """Raise unless ``path`` is the expected file.

    Args:
        path: The file to verify.
        expected: What it must be.
        owner: The function in whose name the error speaks.
        remedy: What the reader of the error can do.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file has another size or another content.
    """
    fault = expected.fault_of(path)
    if fault is None:
        return
    kind = ValueError if path.is_file() else FileNotFoundError
    raise kind(
        f"{owner}: `{path}` must be a file of {expected.size} bytes "
        f"with SHA-256 {expected.sha256}, got {fault}. {remedy}"
    )
