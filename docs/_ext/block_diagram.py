"""``block-diagram``: a module drawn from a run of itself.

    .. block-diagram:: DenseBlock(32, 16, num_layers=3)
       :shape: 32 32 28 28
       :depth: 1

Every box, number and arrow comes from what the forward pass did; the module is built anew at every
build of the site. The picture takes its colours from the page, light or dark.
"""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from statistics import mean
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from namespace import build, read_shape
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from trace_module import Step, trace

WIDTH, LANE, LINE, GAP_X, GAP_Y, PAD = 176, 12, 17, 16, 28, 7  # pixels


@dataclass(eq=False)
class Place:
    """Where a step, or the lane of an arrow that passes by, stands in its row."""

    step: Step | None
    above: list[Place] = field(default_factory=list)
    x: float = 0.0
    y: float = 0.0
    height: float = 0.0

    def __post_init__(self) -> None:
        self.height = 2 * PAD + LINE * (len(self.step.lines) + 1) if self.step else 0

    @property
    def width(self) -> int:
        """Of the box, or of the lane."""
        return WIDTH if self.step else LANE


def rank(steps: list[Step]) -> dict[int, int]:
    """The row of each step: one below the lowest that it reads."""
    ranks: dict[int, int] = {}
    for step in steps:
        ranks[id(step)] = max((ranks[id(source)] + 1 for source in step.inputs), default=0)
    return ranks


def arrange(steps: list[Step]) -> list[list[Place]]:
    """Rows of places; an arrow over several rows gets a lane in each row that it passes."""
    ranks = rank(steps)
    rows: list[list[Place]] = [[] for _ in range(max(ranks.values()) + 1)]
    lanes: dict[tuple[int, int], Place] = {}
    for step in steps:
        place = Place(step)
        for source in dict.fromkeys(map(id, step.inputs)):
            for row in range(ranks[source], ranks[id(step)]):
                if (source, row + 1) not in lanes and row + 1 < ranks[id(step)]:
                    lane = Place(None, [lanes[source, row]])
                    lanes[source, row + 1] = lane
                    rows[row + 1].append(lane)
            place.above.append(lanes[source, ranks[id(step)] - 1])
        lanes[id(step), ranks[id(step)]] = place
        rows[ranks[id(step)]].append(place)
    return rows


def settle(rows: list[list[Place]]) -> tuple[float, float]:
    """Give every place its coordinates; return width and height of the whole."""
    widths = [sum(p.width for p in row) + GAP_X * (len(row) - 1) for row in rows]
    total = max(widths)
    y = 1.0
    for row, width in zip(rows, widths, strict=True):
        # Under what they read, so that arrows do not cross; a passing arrow right of the boxes.
        row.sort(key=lambda place: (mean([a.x for a in place.above] or [0]), place.step is None))
        x = (total - width) / 2
        tallest = max(place.height for place in row)
        for place in row:
            place.x = x + place.width / 2
            place.height = place.height if place.step else tallest
            place.y = y + (tallest - place.height) / 2
            x += place.width + GAP_X
        y += tallest + GAP_Y
    return total, y - GAP_Y + 1


def _arrow(start: Place, end: Place) -> str:
    x0, y0 = start.x, start.y + start.height
    x1, y1 = end.x, end.y
    middle = (y0 + y1) / 2
    ends = ' marker-end="url(#arrow)"' if end.step else ""
    return (
        f'<path class="arrow" d="M{x0:g} {y0:g}C{x0:g} {middle:g} {x1:g} {middle:g} {x1:g} '
        f'{y1 - (4 if end.step else 0):g}"{ends}/>'
    )


def _box(place: Place) -> str:
    step = place.step
    if step is None:
        return f'<path class="arrow" d="M{place.x:g} {place.y:g}v{place.height:g}"/>'
    left = place.x - WIDTH / 2
    shape = " x ".join(map(str, step.shape[1:]))
    texts = [
        f'<text x="{place.x:g}" y="{place.y + PAD + LINE * (i + 0.75):g}">{html.escape(line)}'
        "</text>"
        for i, line in enumerate(step.lines)
    ]
    bottom = place.y + PAD + LINE * (len(step.lines) + 0.75)
    texts.append(f'<text class="shape" x="{place.x:g}" y="{bottom:g}">{shape}</text>')
    box = (
        f'<rect class="{step.kind}" x="{left:g}" y="{place.y:g}" width="{WIDTH}" '
        f'height="{place.height}" rx="6"/>'
    )
    return box + "".join(texts)


def draw(steps: list[Step], label: str) -> str:
    """The steps as an SVG picture that scales with the page."""
    rows = arrange(steps)
    width, height = settle(rows)
    places = [place for row in rows for place in row]
    arrows = [_arrow(above, place) for place in places for above in place.above]
    marker = (
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="4" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>'
    )
    return (
        f'<svg class="block-diagram" role="img" aria-label="{html.escape(label)}" '
        f'viewBox="-1 0 {width + 2:g} {height:g}" style="max-width: {width + 2:g}px" '
        f'xmlns="http://www.w3.org/2000/svg">{marker}{"".join(arrows)}'
        f"{''.join(map(_box, places))}</svg>"
    )


def say(call: str, steps: list[Step]) -> str:
    """The picture in words, for those who do not see it."""
    said = "; ".join(", ".join(step.lines) for step in steps)
    return f"Diagram of {call}, from top to bottom: {said}"


class BlockDiagram(SphinxDirective):
    """Show a module as boxes and arrows."""

    required_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar[dict[str, Any]] = {
        "shape": directives.unchanged_required,
        "depth": directives.positive_int,
    }

    def run(self) -> list[nodes.Node]:
        """Run the module and draw what it did."""
        call, shape = " ".join(self.arguments[0].split()), read_shape(self.options["shape"])
        steps = trace(build(call), shape, depth=self.options.get("depth"))
        figure = nodes.container(classes=["block-diagram-frame"])
        figure += nodes.raw("", draw(steps, say(call, steps)), format="html")
        words = f", drawn from a run on {' x '.join(map(str, shape))}; in each box, C x H x W."
        figure += nodes.caption("", "", nodes.literal(call, call), nodes.Text(words))
        return [figure]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("block-diagram", BlockDiagram)
    return {"parallel_read_safe": True}
