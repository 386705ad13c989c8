"""``:record:`faithful/original final L_D```: a number in prose, read from a committed record.

A name that no record knows is an error, which fails a strict build. `record_figures` explains it.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from record_figures import UnknownFigureError, find_figure
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxRole

_ROLE = re.compile(r":record:`([^`]+)`")


class RecordRole(SphinxRole):
    """Show a number, with its name for those who point at it."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Look the number up."""
        name = " ".join(self.text.split())
        try:
            figure = find_figure(name)
        except UnknownFigureError as error:
            message = self.inliner.reporter.error(str(error), line=self.lineno)
            return [self.inliner.problematic(self.rawtext, self.rawtext, message)], [message]
        for path in figure.sources:
            self.env.note_dependency(str(path))
        return [nodes.inline(self.rawtext, figure.text, classes=["record"])], []


def replace_roles(text: str) -> str:
    """The same text with each number in place of its role, for what is no page of this site."""
    return _ROLE.sub(lambda match: find_figure(" ".join(match[1].split())).text, text)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the role."""
    app.add_role("record", RecordRole())
    return {"parallel_read_safe": True}
