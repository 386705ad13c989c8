"""The record of `benchmarks.saving` as a picture: kept bytes of networks, and one step's memory.

python -m benchmarks.saving_chart
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

import matplotlib
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.lean import MEBIBYTE
from benchmarks.saving import CONVOLUTIONS, LEAN, PLAIN, TIMELINE, Kind

RECORDS = Path(__file__).parent / "records"
_BARS = (
    (Kind.D, LEAN, "D step, make_lean", "#2a78b5"),
    (Kind.D, CONVOLUTIONS, "D step, convolutions too", "#7fb2dc"),
    (Kind.G, LEAN, "G step, D frozen, make_lean", "#e08a2e"),
)
_HEIGHT = 0.28


def digest_of(record: bytes) -> str:
    """Tells which record a picture was drawn from."""
    return hashlib.sha256(record).hexdigest()


def draw(record: dict[str, Any]) -> Figure:
    """Bars of kept bytes, as shares of plain's, beside what lived during a step."""
    figure = Figure(figsize=(11, 6.6), layout="constrained")
    bars, line = figure.subplots(1, 2, width_ratios=(1.25, 1))
    _draw_bars(bars, record["work"])
    _draw_timeline(line, record["work"])
    return figure


def _draw_bars(axes: Axes, work: dict[str, Any]) -> None:
    names = list(dict.fromkeys(title.rsplit(": ", 1)[0] for title in work))
    for index, (kind, way, label, color) in enumerate(_BARS):
        rows = [work.get(f"{name}: {kind.value}", {}).get("rows", {}) for name in names]
        shares = [
            row[way]["kept_bytes"] / row[PLAIN]["kept_bytes"] if way in row else 0.0 for row in rows
        ]
        places = [place + (index - 1) * _HEIGHT for place in range(len(names))]
        axes.barh(places, shares, _HEIGHT, label=label, color=color)
        for place, share in zip(places, shares, strict=True):
            if share:
                axes.text(share + 0.008, place, f"{share:.2f}", va="center", fontsize=6.5)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("kept for the backward pass, as a share of plain PyTorch's")
    # Beside perceptual networks, which have short bars and no D step.
    axes.legend(loc="center right", bbox_to_anchor=(1.0, 0.25), frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_timeline(axes: Axes, work: dict[str, Any]) -> None:
    name, kind = TIMELINE
    rows = work[f"{name}: {kind.value}"]["rows"]
    for way, label, color in ((PLAIN, "plain", "#555555"), (LEAN, "make_lean", "#2a78b5")):
        history = [0, *rows[way]["history"]]
        share = [index / (len(history) - 1) for index in range(len(history))]
        axes.plot(share, [n / MEBIBYTE for n in history], label=label, color=color, linewidth=1.4)
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("operators of the step, from the first to the last one")
    axes.set_ylabel("live memory, MiB")
    axes.set_title(f"{name}: one {kind.value}", fontsize=10)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    record: Annotated[Path, typer.Option(help="What `benchmarks.saving` wrote.")] = (
        RECORDS / "saving.json"
    ),
    out: Annotated[Path, typer.Option(help="The picture.")] = RECORDS / "saving.svg",
) -> None:
    """Draw the picture, which says in its metadata which record it is of."""
    content = record.read_bytes()
    figure = draw(json.loads(content))
    with matplotlib.rc_context({"svg.hashsalt": "gaslayers", "svg.fonttype": "none"}):
        metadata = {"Date": None, "Description": digest_of(content)}
        figure.savefig(out, metadata=metadata, facecolor="white")


if __name__ == "__main__":
    app()
