"""The audit's page, drawn from the committed records of its runs when the site is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from gaslayers.study.report.audit import write_audit

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT / "examples" / "records" / "audit"
FOLDER = "results/audit"
"""Of the page and its pictures, below the pages' folder; nothing in it is committed."""


def draw(app: Sphinx) -> None:
    """Write the page and its pictures anew.

    Raises:
        ExtensionError: There is no finished run, or a record does not fit.
    """
    try:
        write_audit(RECORDS, Path(app.srcdir) / FOLDER)
    except (FileNotFoundError, ValueError) as error:
        raise ExtensionError(f"{RECORDS}: {error}", error) from error


def setup(app: Sphinx) -> dict[str, Any]:
    """Draw before the pages are read."""
    app.connect("builder-inited", draw)
    return {"parallel_read_safe": True}
