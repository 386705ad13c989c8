"""Names in signatures as the source writes them, and short names found where they have pages."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

# Docstrings call each other's subjects by short names; here is where those have their pages.
PLACES = (
    "gaslayers",
    "gaslayers.accounting",
    "gaslayers.models",
    "gaslayers.study",
    "gaslayers.study.checkpoint",
    "gaslayers.study.sweep",
    "gaslayers.testing",
)


def _tidy(text: str | None) -> str | None:
    # Sphinx prints an alias that stands in a union as the object that it holds it in.
    return text and re.sub(r"TypeAliasForwardRef\('([\w.]+)'\)", r"\1", text)


def tidy(
    _app: Sphinx,
    _what: str,
    _name: str,
    _object: Any,
    _options: Any,
    signature: str | None,
    returned: str | None,
) -> tuple[str | None, str | None]:
    """Rewrite one signature and what it returns."""
    return _tidy(signature), _tidy(returned)


def find_short_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, shown: nodes.Element
) -> nodes.Element | None:
    """Resolve a short name that its own module does not document."""
    target = node["reftarget"]
    if node.get("refdomain") != "py" or "." in target:
        return None
    python = env.domains.python_domain
    for place in PLACES:
        if f"{place}.{target}" in python.objects:
            return python.resolve_xref(
                env, node["refdoc"], app.builder, "obj", f"{place}.{target}", node, shown
            )
    return None


def setup(app: Sphinx) -> dict[str, Any]:
    """Hear of every signature, and of every name that was not found."""
    app.connect("autodoc-process-signature", tidy)
    app.connect("missing-reference", find_short_name)
    return {"parallel_read_safe": True}
