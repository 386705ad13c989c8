"""``cost-chart``: cost against size for the cases of a recorded study, with hover.

    .. cost-chart:: faithful

plotly describes the chart when the site is built and draws it in the browser. Its script is copied
out of the installed package and is loaded by the pages that hold a chart alone.
"""

from __future__ import annotations

import html
import json
import math
from pathlib import Path
from typing import Any

import plotly
from docutils import nodes
from plotly import graph_objects as go
from recorded import read_cases
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

from gaslayers.study import Run

PATHS = {
    # The site's colours, which differ in the dark; the marks differ too, for eyes that see neither.
    "plain": ("saved_bytes_plain", "--site-join-edge", "circle"),
    "lean": ("saved_bytes", "--site-compute-edge", "diamond"),
}
HOVER = (
    "<b>%{customdata[0]}</b><br>%{x:,} parameters<br>%{customdata[1]:,} bytes kept, "
    "%{fullData.name}<br>%{customdata[2]:.3f} GFLOPs forward<extra></extra>"
)


def logarithmic(title: str, values: list[float]) -> dict[str, Any]:
    """An axis with a tick at 1, 2 and 5 of every decade that the values are in, and room beside."""
    low, high = min(values) / 1.4, max(values) * 1.4
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
    ticks = [digit * 10**decade for decade in decades for digit in (1, 2, 5)]
    return {
        "title": {"text": title},
        "type": "log",
        "range": [math.log10(low), math.log10(high)],
        "tickvals": ticks,
        "ticktext": [str(tick) if tick < 1000 else f"{tick // 1000}k" for tick in ticks],
        "showline": True,
        "zeroline": False,
        "fixedrange": True,
    }


def describe_chart(runs: list[Run]) -> go.Figure:
    """Bytes kept for backward over parameters: a mark per case and path, with the case's number."""
    figure = go.Figure(layout={"template": "none"})
    cases = [run.config.case for run in runs]
    sizes = [run.record.discriminator_parameters for run in runs]
    flops = [run.record.discriminator_forward_flops / 1e9 for run in runs]
    heights: list[float] = []
    for name, (field, colour, symbol) in PATHS.items():
        kept = [getattr(run.record.memory_predicted, field) for run in runs]
        mebibytes = [size / 2**20 for size in kept]
        heights += mebibytes
        figure.add_scatter(
            name=name,
            x=sizes,
            y=mebibytes,
            customdata=list(zip(cases, kept, flops, strict=True)),
            hovertemplate=HOVER,
            mode="markers+text",
            text=[str(number) for number, _ in enumerate(runs, 1)],
            textposition="middle right" if name == "plain" else "middle left",
            marker={"symbol": symbol, "size": 12},
            meta=colour,  # the browser knows its value
        )
    figure.update_layout(
        margin={"l": 60, "r": 15, "t": 40, "b": 70},
        height=440,
        hovermode="closest",
        dragmode=False,
        legend={"orientation": "h", "x": 0, "y": 1.12},
        xaxis=logarithmic("trainable parameters of D", sizes),
        yaxis=logarithmic("kept by a D step, MiB", heights),
    )
    return figure


class CostChart(SphinxDirective):
    """Show what the cases of a study cost."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Read the study of a preset.

        Raises:
            ExtensionError: A record is missing, or does not say what is kept.
        """
        runs = read_cases(self, self.arguments[0])
        for run in runs:
            if run.record.memory_predicted is None:
                place = self.get_location()
                raise ExtensionError(f"{place}: the record of `{run.name}` must say what is kept")
        cases = "; ".join(f"{number}: {run.config.case}" for number, run in enumerate(runs, 1))
        batch = runs[0].config.batch_size
        words = (
            f"What a D step keeps against size at batch {batch}, both axes logarithmic. "
            f"Cases: {cases}. Point at "
            "a mark for its numbers; they are also in the table of what the runs cost."
        )
        # A closing tag inside the JSON would end the script.
        figure = json.dumps(describe_chart(runs).to_plotly_json()).replace("</", r"<\/")
        chart = nodes.container(classes=["cost-chart"])
        chart += nodes.raw(
            "",
            f'<div class="chart" role="img" aria-label="{html.escape(words)}"></div>'
            f'<script type="application/json">{figure}</script>',
            format="html",
        )
        chart += nodes.caption(words, words)
        return [chart]


def add_static_file(_app: Sphinx, config: Config) -> None:
    """Copy plotly's script beside the site's own."""
    config.html_static_path.append(str(Path(plotly.__file__).parent / "package_data/plotly.min.js"))


def load_script(
    app: Sphinx,
    _page: str,
    _template: str,
    _context: dict[str, Any],
    doctree: nodes.document | None,
) -> None:
    """Load the scripts where there is a chart."""
    is_chart = lambda node: "cost-chart" in node.get("classes", ())  # noqa: E731
    if doctree and any(map(is_chart, doctree.findall(nodes.container))):
        app.add_js_file("plotly.min.js", loading_method="defer")
        app.add_js_file("cost_chart.js", loading_method="defer", priority=600)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive and its scripts."""
    app.add_directive("cost-chart", CostChart)
    app.connect("config-inited", add_static_file)
    app.connect("html-page-context", load_script)
    return {"parallel_read_safe": True}
