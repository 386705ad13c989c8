"""Run a study's script again when a record that it shows has changed.

sphinx-gallery runs a script again when the script itself has changed, which it tells by a hash
beside the page. A record that goes stale would be noticed by the next clean build only.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from gallery import RECORDS
from sphinx.application import Sphinx


def digest(records: Path) -> str:
    """Of all that the scripts read of the records: what is said of each run, and its curves."""
    found = hashlib.sha256()
    for path in sorted([*records.rglob("*.json"), *records.rglob("*.csv")]):
        found.update(path.relative_to(records).as_posix().encode())
        found.update(path.read_bytes())
    return found.hexdigest()


def _pages(app: Sphinx) -> Path:
    return Path(app.srcdir, "gallery", "study")


def _stamp(app: Sphinx) -> Path:
    """Where it is written of which records the pages are."""
    return _pages(app) / "records.sha256"


def forget_pages(app: Sphinx) -> None:
    """Take the hashes away from the study's pages where they are of other records."""
    stamp = _stamp(app)
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != digest(RECORDS):
        for page in _pages(app).glob("*.py.md5"):
            page.unlink()


def remember_records(app: Sphinx, exception: Exception | None) -> None:
    """Note which records the pages are of, once all of them are built."""
    if exception is None and _pages(app).is_dir():
        _stamp(app).write_text(digest(RECORDS), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect in front of sphinx-gallery, which runs the scripts at the same event."""
    app.connect("builder-inited", forget_pages, priority=100)
    app.connect("build-finished", remember_records)
    return {"parallel_read_safe": True}
