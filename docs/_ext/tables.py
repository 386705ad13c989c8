"""Tables as docutils nodes: a first column of words, then numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from docutils import nodes


def _row(cells: Iterable[str], *, code: bool, numeric: bool) -> nodes.row:
    row = nodes.row()
    for index, cell in enumerate(cells):
        shown = nodes.literal(cell, cell) if code and index == 0 else nodes.Text(cell)
        paragraph = nodes.paragraph("", "", shown)
        row += nodes.entry("", paragraph, classes=["number"] if numeric and index else [])
    return row


def make_table(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    title: str,
    code: bool = False,
    numeric: bool = True,
) -> nodes.table:
    """A table with a caption.

    Args:
        headings: One a column.
        rows: Their cells.
        title: The caption.
        code: Whether the first column holds names out of the code.
        numeric: Whether the other columns hold numbers, which stand under each other; if not, they
            hold words, which wrap.
    """
    group = nodes.tgroup(cols=len(headings))
    group += [nodes.colspec(colwidth=1) for _ in headings]
    group += nodes.thead("", _row(headings, code=False, numeric=numeric))
    group += nodes.tbody("", *(_row(row, code=code, numeric=numeric) for row in rows))
    return nodes.table(
        "", nodes.title(title, title), group, classes=["numbers" if numeric else "words"]
    )
