"""``cost-table``: what a block costs for a stated shape, counted when the site is built.

    .. cost-table:: InceptionBlock(32, 64)
       :shape: 32 32 28 28

The closed form and the count must agree, or the build fails.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from docutils import nodes
from docutils.parsers.rst import directives
from namespace import build, read_shape
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective
from tables import make_table

from gaslayers import count, saved_bytes


def kept(call: str, shape: tuple[int, ...], *, lean: bool, frozen: bool) -> str:
    """What one forward keeps for its backward, in MiB, as its training step would run it."""
    options = {} if lean else {"memory_efficient": False}
    block = build(call, **options).requires_grad_(not frozen)
    return f"{saved_bytes(block, torch.zeros(shape, requires_grad=True)) / 2**20:.2f} MiB"


def rows(call: str, shape: tuple[int, ...]) -> list[list[str]]:
    """The table's rows of what and how much.

    Raises:
        ExtensionError: The closed form disagrees with the count.
    """
    block: Any = build(call)
    report = count(block, torch.zeros(shape), backward=True)
    batch, _, height, width = shape
    if hasattr(block, "expected_macs") and batch * block.expected_macs(height, width) != (
        report.macs
    ):
        raise ExtensionError(f"`{call}`: closed form and count must agree, got {report.macs} MACs")
    found = [
        ["trainable parameters", f"{report.trainable:,}"],
        ["MACs, forward", f"{report.macs:,}"],
        ["FLOPs, forward", f"{report.flops:,}"],
        ["MACs, backward", f"{report.backward_macs:,}"],
    ]
    has_paths = hasattr(block, "memory_efficient")
    lean_ways = (("plain", False), ("lean", True)) if has_paths else (("always plain", True),)
    for word, frozen in (("trained", False), ("frozen", True)):
        for path, lean in lean_ways:
            size = kept(call, shape, lean=lean, frozen=frozen)
            found.append([f"kept for backward, {word}, {path}", size])
    return found


class CostTable(SphinxDirective):
    """Show what a block costs."""

    required_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar[dict[str, Any]] = {"shape": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        """Count the block for the shape."""
        call, shape = " ".join(self.arguments[0].split()), read_shape(self.options["shape"])
        title = f"{call} on an input of {' x '.join(map(str, shape))}, float32"
        return [make_table(["cost", "amount"], rows(call, shape), title=title)]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("cost-table", CostTable)
    return {"parallel_read_safe": True}
