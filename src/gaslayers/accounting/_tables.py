"""A summary and a table of strings as plain text, Markdown and HTML; the first column is names."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

LEFT_ALIGNED = 2  # the name and the type; the rest are numbers


def text(summary: Sequence[str], header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned with spaces, under the summary's lines."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for row in [header, ["-" * width for width in widths], *rows]:
        cells = [
            cell.ljust(width) if i < LEFT_ALIGNED else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join([*summary, "", *lines])


def markdown(summary: Sequence[str], header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in pipes, under the summary as a paragraph."""
    rule = ["---" if i < LEFT_ALIGNED else "---:" for i in range(len(header))]
    named = [[f"`{name}`", *cells] for name, *cells in rows]
    lines = [f"| {' | '.join(row)} |" for row in [header, rule, *named]]
    return "\n".join(["  \n".join(summary), "", *lines])


def html(summary: Sequence[str], header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with the summary as its caption."""

    def row(cells: Sequence[str], tag: str) -> str:
        style = ['style="text-align: left"', 'style="text-align: right"']
        return "".join(
            f"<{tag} {style[i >= LEFT_ALIGNED]}>{escape(cell)}</{tag}>"
            for i, cell in enumerate(cells)
        )

    caption = "<br>".join(map(escape, summary))
    body = "".join(f"<tr>{row(cells, 'td')}</tr>" for cells in rows)
    return (
        f'<table><caption style="text-align: left">{caption}</caption>'
        f"<thead><tr>{row(header, 'th')}</tr></thead><tbody>{body}</tbody></table>"
    )
