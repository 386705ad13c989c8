"""Numbers that somebody typed into the prose of the study's pages: each is a warning.

Such a number stays behind when its record changes. `record_role` reads one from a record; a line
that the page's own code prints is right as well, and so is a table out of records.

A typed figure is, in prose outside of code, formulas and what records fill in:

- a number with a decimal point, an exponent or a separator of thousands;
- a number with a unit, a per cent sign or ``times`` behind it;
- what a curve reads: a number behind ``loss of``, ``L_D``, ``L_G`` or ``iteration``;
- a proportion in words: ``four times``, ``tens of times``, ``orders of magnitude``, ``a quarter``.

These are none: what stands in quotation marks, which is a citation; shapes as ``3x3`` and
``28 x 28``; years; versions behind ``Python`` or with two points; identifiers of arXiv and of a
licence. Other plain whole numbers are definitions, such as the filters that a case is named after.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)

PAGES = (
    "concepts/protocol",
    "concepts/study",
    "gallery/memory/what_777_mb_measured",
    "gallery/study/*",
    "results/index",
)
README = Path(__file__).resolve().parents[2] / "README.md"

_WHOLE = r"\d+(?:,\d{3})*"
_DECIMAL = r"\d+(?:,\d{3})*\.\d+(?:e[+-]?\d+)?|\d+e[+-]?\d+|\d{1,3}(?:,\d{3})+"
_NUMBER = rf"(?<![\w.])(?:{_DECIMAL}|{_WHOLE})"
_UNIT = (
    r"%|\N{MULTIPLICATION SIGN}|x(?!\s*\d)\b|(?:[KMGT]i?B|kB|bytes?|bits?|times|fold|per\s?cent|"
    r"percent|ms|s|seconds?|minutes?|hours?|iterations?|parameters|[MG]?FLOPs?|[MG]?MACs?)\b"
)
_WORD = (
    r"(?:two|three|four|five|six|seven|eight|nine|ten|twenty|fifty|tens\s+of|dozens\s+of|"
    r"hundreds\s+of|a\s+hundred|a\s+thousand)"
)
_PART = r"(?:third|quarter|fifth|sixth|seventh|eighth|ninth|tenth|hundredth|thousandth)s?"
_FIGURES = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?<![\w.])(?:{_DECIMAL})",
        rf"{_NUMBER}\s*-?(?:{_UNIT})",
        rf"(?:loss(?:es)?\s+(?:of|is|was|at|near)|L_D|L_G|iterations?)\s+(?:(?:about|at|near|of|is)\s+)*"
        rf"{_NUMBER}",
        rf"\b(?i:{_WORD})\s+times\b",
        r"\borders?\s+of\s+magnitude\b",
        rf"\b(?i:an?|one|two|three)[\s-]{_PART}\b",
        r"\bhalf\s+of\b",
    )
)
_ALLOWED = tuple(
    re.compile(pattern)
    for pattern in (
        r"\"[^\"]*\"|\N{LEFT DOUBLE QUOTATION MARK}[^\N{RIGHT DOUBLE QUOTATION MARK}]*"
        r"\N{RIGHT DOUBLE QUOTATION MARK}",
        r"\bPython \d\.\d+",
        r"(?<![\w.])\d+\.\d+\.\d+(?![\w.])",
        r"\barXiv:\d+\.\d+",
        r"\bCC BY-SA \d\.\d",
    )
)
_FILLED = "\N{WHITE SQUARE}"  # in place of what a record or code says
_CODE = (nodes.literal, nodes.math, nodes.raw, nodes.problematic, addnodes.pending_xref)
_GENERATED = {"record", "provenance", "numbers", "words", "cost-chart", "from-records"}


def find_typed(prose: str) -> list[str]:
    """The typed figures of a paragraph, in the order of the kinds above."""
    text = " ".join(prose.split())
    for allowed in _ALLOWED:
        text = allowed.sub(_FILLED, text)
    found = []
    for kind in _FIGURES:
        found += [match[0] for match in kind.finditer(text)]
        text = kind.sub(_FILLED, text)  # so that each is found once
    return found


def _is_generated(node: nodes.Node) -> bool:
    classes = node.get("classes", ()) if isinstance(node, nodes.Element) else ()
    return any(name in _GENERATED or name.startswith("sphx-glr") for name in classes)


def _say(node: nodes.Node) -> str:
    if isinstance(node, nodes.Text):
        return node.astext()
    if isinstance(node, _CODE) or _is_generated(node):
        return _FILLED
    return "".join(map(_say, node.children))


def paragraphs_of(node: nodes.Node) -> Iterator[tuple[nodes.TextElement, str]]:
    """Paragraphs, titles and captions that somebody wrote, each with its prose."""
    if _is_generated(node) or isinstance(node, nodes.literal_block | nodes.math_block | nodes.raw):
        return
    if isinstance(node, nodes.TextElement):
        yield node, _say(node)
        return
    for child in node.children:
        yield from paragraphs_of(child)


def check_page(app: Sphinx, document: nodes.document) -> None:
    """Warn of each typed figure on a page of the study."""
    if any(fnmatch(app.env.docname, pattern) for pattern in PAGES):
        for node, prose in paragraphs_of(document):
            for figure in find_typed(prose):
                logger.warning("`%s` is typed; read it from a record", figure, location=node)


def prose_of_readme(text: str) -> list[tuple[int, str]]:
    """The paragraphs of a Markdown file, with the line where each begins.

    Without code, comments, what stands between the markers of generated text, and links' targets.
    """

    def blank(match: re.Match[str]) -> str:
        return _FILLED + "\n" * match[0].count("\n")

    for pattern in (
        r"<!-- generated: .*?<!-- end generated -->",
        r"^```.*?^```",
        r"<!--.*?-->",
        r"`[^`\n]+`",
        r"(?<=\])\([^)\s]*\)",
        r"<https?://[^>]*>",
    ):
        text = re.sub(pattern, blank, text, flags=re.DOTALL | re.MULTILINE)
    found = re.finditer(r"\S.*?(?=\n\s*\n|\Z)", text, re.DOTALL)
    return [(text.count("\n", 0, match.start()) + 1, match[0]) for match in found]


def check_readme(_app: Sphinx) -> None:
    """Warn of each typed figure in README.md, which makes the same claims as the pages."""
    for line, prose in prose_of_readme(README.read_text(encoding="utf-8")):
        for figure in find_typed(prose):
            logger.warning(
                "`%s` is typed; tools/update_readme.py can write it",
                figure,
                location=f"{README}:{line}",  # of a pair Sphinx takes the first for a page
            )


def setup(app: Sphinx) -> dict[str, Any]:
    """Look at every page once it is read, and at README.md."""
    app.connect("doctree-read", check_page)
    app.connect("builder-inited", check_readme)
    return {"parallel_read_safe": True}
