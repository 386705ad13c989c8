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


def forget_pages(app: Sphinx) -> None:
    """Take the hashes away from the study's pages where they are of other records."""
    pages = Path(app.srcdir, app.config.sphinx_gallery_conf["gallery_dirs"], "study")
    stamp, now = pages / "records.sha256", digest(RECORDS)
    if not pages.is_dir() or (stamp.is_file() and stamp.read_text(encoding="utf-8") == now):
        return
    for page in pages.glob("*.py.md5"):
        page.unlink()
    stamp.write_text(now, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect in front of sphinx-gallery, which runs the scripts at the same event."""
    app.connect("builder-inited", forget_pages, priority=100)
    return {"parallel_read_safe": True}
