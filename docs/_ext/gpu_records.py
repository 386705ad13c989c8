"""``.. gpu-records::`` shows the record of each GPU, or says that there is none."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from tables import make_table

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT / "benchmarks" / "records"
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))  # the tables are those that the benchmark prints

from benchmarks.gpu_markdown import all_tables, provenance_of  # noqa: E402  (see above)

NONE = (
    "There is no record of a GPU: nothing on this site was measured on one. Where there is a GPU, "
    "this command makes the record in at most eight minutes:"
)
COMMAND = "python -m benchmarks.gpu"


class GPURecords(SphinxDirective):
    """The tables of every record, or the sentence that there is none."""

    def run(self) -> list[nodes.Node]:
        """Read what there is."""
        self.env.note_dependency(str(RECORDS))  # where a new one would appear
        paths = sorted(RECORDS.glob("gpu-*.json"))
        if not paths:
            return [nodes.paragraph(NONE, NONE), nodes.literal_block(COMMAND, COMMAND)]
        shown: list[nodes.Node] = []
        for path in paths:
            self.env.note_dependency(str(path))
            shown += self._show(json.loads(path.read_text(encoding="utf-8")))
        return shown

    def _show(self, record: dict[str, Any]) -> Iterator[nodes.Node]:
        words = f"Recorded on {provenance_of(record)}"
        yield nodes.paragraph(words, words, classes=["provenance"])
        for table in all_tables(record):
            yield make_table(table.headings, table.rows, title=table.title)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("gpu-records", GPURecords)
    return {"parallel_read_safe": True}
