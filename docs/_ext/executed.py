"""``executed``: code that runs when the site is built, with what it prints under it.

    .. executed::

       >>> no prompts: plain code; the value of a last expression is shown as Python would

The blocks of one page share their names and run in order, after ``torch.manual_seed(0)``; an error
fails the build. So a page shows no number that was typed in.
"""

from __future__ import annotations

import ast
import contextlib
import io
import linecache
import sys
import types
from typing import Any

import torch
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

PAGE = "__page__"


def run(code: str, names: dict[str, Any], place: str) -> str:
    """Run code and return what it prints, the value of a last expression included.

    Raises:
        ExtensionError: The code raises.
    """
    tree = ast.parse(code)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    # Functions that are defined here can be looked into, as torch does.
    linecache.cache[place] = (len(code), None, code.splitlines(keepends=True), place)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            exec(compile(tree, place, "exec"), names)
            if last is not None:
                value = eval(compile(ast.Expression(last.value), place, "eval"), names)
                if value is not None:
                    print(repr(value))
    except Exception as error:  # whatever it is, the build names the place
        raise ExtensionError(f"{place}: {type(error).__name__}: {error}", error) from error
    return printed.getvalue().rstrip()


class Executed(SphinxDirective):
    """Show code and its output."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Run the content among the page's names."""
        if self.env.temp_data.get("executed_page") != self.env.docname:
            self.env.temp_data["executed_page"] = self.env.docname
            torch.manual_seed(0)
            # A module that can be imported, so that classes defined on the page can be pickled.
            sys.modules[PAGE] = types.ModuleType(PAGE)
        names = vars(sys.modules[PAGE])
        code = "\n".join(self.content)
        source, line = self.get_source_info()
        output = run(code, names, f"{source}:{line}")
        shown = nodes.literal_block(code, code, language="python")
        self.set_source_info(shown)
        if not output:
            return [shown]
        result = nodes.literal_block(output, output, language="text", classes=["executed-output"])
        self.set_source_info(result)
        return [shown, result]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("executed", Executed)
    return {"parallel_read_safe": True}
