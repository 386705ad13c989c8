"""Tables as docutils nodes: a first column of words, then numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from docutils import nodes


def _row(cells: Iterable[str], *, code: bool) -> nodes.row:
    row = nodes.row()
    for index, cell in enumerate(cells):
        shown = nodes.literal(cell, cell) if code and index == 0 else nodes.Text(cell)
        paragraph = nodes.paragraph("", "", shown)
        row += nodes.entry("", paragraph, classes=[] if index == 0 else ["number"])
    return row


def make_table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], *, title: str, code: bool = False
) -> nodes.table:
    """A table with a caption.

    Args:
        headings: One a column.
        rows: Their cells.
        title: The caption.
        code: Whether the first column holds names out of the code.
    """
    group = nodes.tgroup(cols=len(headings))
    group += [nodes.colspec(colwidth=1) for _ in headings]
    group += nodes.thead("", _row(headings, code=False))
    group += nodes.tbody("", *(_row(row, code=code) for row in rows))
    return nodes.table("", nodes.title(title, title), group, classes=["numbers"])
