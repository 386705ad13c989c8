"""A recorded study out of its committed records: a missing one is an error.

``.. study-record:: quick`` shows pictures and tables; nothing in them is typed in.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective
from tables import make_table

from gaslayers.models import CASES
from gaslayers.study import Run
from gaslayers.study.report.captions import describe_preset
from gaslayers.study.report.runs import Group, Study, read_study
from gaslayers.study.report.tables import cost_of, hashes_of, outcome_of, provenance_of

ROOT = Path(__file__).resolve().parents[2]
PICTURES = {
    "generator_loss.png": "Generator loss over iterations, a panel for each case",
    "discriminator_loss.png": "Discriminator loss over iterations, a panel for each case",
    "samples.png": "Grids of generated digits, one for each case, at the end of training",
}


def read_record(directive: SphinxDirective, preset: str) -> Study:
    """Read the committed study of a preset for a page, all six cases of it.

    Raises:
        ExtensionError: A case has no record, or it is damaged.
    """
    folder = ROOT / "examples" / "records" / preset
    try:
        study = read_study(folder)
    except (FileNotFoundError, ValueError) as error:
        raise ExtensionError(f"{directive.get_location()}: {error}", error) from error
    for group in study.groups:
        for case in CASES:
            name = f"{case}-{group.config.variant}-seed*"
            if not group.runs_of(case):
                path = folder / name / "record.json"
                raise ExtensionError(f"{directive.get_location()}: the record `{path}` is missing")
    for path in folder.rglob("record.json"):
        directive.env.note_dependency(str(path))
    return study


def read_cases(directive: SphinxDirective, preset: str) -> list[Run]:
    """The first run of each case, in the study's order: what it costs is that of every seed."""
    group = read_record(directive, preset).groups[0]
    return [group.runs_of(case)[0] for case in CASES]


class StudyRecord(SphinxDirective):
    """Show a recorded study: pictures, how its runs ended, what they cost, and their provenance."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Read the study of a preset."""
        folder = ROOT / "examples" / "records" / self.arguments[0]
        groups = read_record(self, self.arguments[0]).groups
        shown: list[nodes.Node] = []
        for group in groups:
            shown += self._describe(group)
        return [*shown, *self._pictures(folder)]

    def _describe(self, group: Group) -> Iterator[nodes.Node]:
        note = nodes.admonition(classes=["note", "from-records"])
        note += nodes.title("", "What these runs are")
        words = f"{describe_preset(group)}. {group.config.iterations} iterations per run."
        note += nodes.paragraph(words, words[:1].upper() + words[1:])
        yield note
        for title, table in (
            ("How the runs ended", outcome_of(group)),
            ("What they cost", cost_of(group)),
            ("Which configuration and code they belong to", hashes_of(group)),
        ):
            yield make_table(table.headings, table.rows, title=title, code=True)
        rows = list(provenance_of(group).items())
        yield make_table(
            ["what", "value"], rows, title="Where the numbers come from", numeric=False
        )

    def _pictures(self, folder: Path) -> Iterator[nodes.Node]:
        source = Path(self.env.doc2path(self.env.docname)).parent
        for name, words in PICTURES.items():
            path = folder / name
            if not path.exists():
                raise ExtensionError(f"{self.get_location()}: the picture `{path}` is missing")
            uri = Path(os.path.relpath(path, source)).as_posix()
            figure = nodes.figure()
            figure += nodes.image(uri=uri, alt=words)
            figure += nodes.caption(words, words)
            yield figure


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("study-record", StudyRecord)
    return {"parallel_read_safe": True}
