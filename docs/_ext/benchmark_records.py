"""Recorded benchmarks as tables: nothing in them is typed in, and a missing record is an error.

``.. lean-record:: lean`` shows every way of every piece of work, or with ``:work: densenet121`` of
those whose titles have this in them. ``.. lean-summary:: lean_eager`` has a line for each piece of
work. ``.. saving-record:: saving`` shows what `make_lean` keeps of other people's networks.
``.. penalty-record:: penalties`` shows gradient penalties. ``.. counting-record:: counting`` shows
what other tools count. ``.. judging-record:: judging`` shows what metrics and a watch take.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import OptionSpec
from tables import make_table

RECORDS = Path(__file__).resolve().parents[2] / "benchmarks" / "records"
PLAIN, LEAN, RECOMPUTE = "plain eager", "gaslayers", "gaslayers, recompute"
SUMMARISED = {
    LEAN: "lean",
    RECOMPUTE: "recompute",
    "make_lean on plain layers": "engine",
    'make_lean on plain layers, recompute="convolutions"': "engine, convolutions",
}
"""The ways that a summary shows where a record has them, and how it heads them."""

MEBIBYTE = 2**20


class _Record(SphinxDirective):
    """What all have in common: the JSON, and what it was measured on."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Read the record of this name.

        Raises:
            ExtensionError: There is none.
        """
        path = RECORDS / f"{self.arguments[0]}.json"
        try:
            record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ExtensionError(f"{self.get_location()}: `{path}` is missing", error) from error
        self.env.note_dependency(str(path))
        words = f"Recorded on {record['run']['summary']}{self.measured(record)}"
        return [nodes.paragraph(words, words, classes=["provenance"]), *self.tables(record)]

    def measured(self, record: dict[str, Any]) -> str:
        """How it was measured."""
        commits = dict.fromkeys(work["commit"] for work in record["work"].values())
        commits.pop(record["run"]["commit"], None)
        later = f" Parts of it were measured on {', '.join(commits)}." if commits else ""
        return (
            f"{later} {record['threads']} threads, median of {record['repeats']} turns; time is "
            "relative to plain eager in the same process."
        )

    def tables(self, record: dict[str, Any]) -> Iterator[nodes.Node]:
        """The tables."""
        raise NotImplementedError


def _mebibytes(row: dict[str, Any], key: str = "kept_bytes") -> str:
    return "-" if row.get(key) is None else f"{row[key] / MEBIBYTE:.2f} MiB"


class LeanRecord(_Record):
    """A table for each piece of work."""

    option_spec: ClassVar[OptionSpec] = {"work": directives.unchanged_required}

    def tables(self, record: dict[str, Any]) -> Iterator[nodes.Node]:
        """Kept bytes, time and gradients of each way.

        Raises:
            ExtensionError: No title has the option's words in it.
        """
        asked = self.options.get("work", "")
        works = {title: work for title, work in record["work"].items() if asked in title}
        if not works:
            raise ExtensionError(f"{self.get_location()}: no work has {asked!r} in its title")
        for work, measured in works.items():
            rows = [
                [name, _mebibytes(row), f"{row['time_ratio']:.2f}", row["gradients"]]
                if "kept_bytes" in row
                else [name, "-", "-", row.get("failed") or f"{row['missing']} is not installed"]
                for name, row in measured["rows"].items()
            ]
            headings = ["path", "kept for backward", "time", "gradients"]
            shape = " x ".join(map(str, measured["shape"]))
            yield make_table(headings, rows, title=f"{work}, input {shape}")


class LeanSummary(_Record):
    """One table for all pieces of work that have a lean way, and one for processes."""

    def tables(self, record: dict[str, Any]) -> Iterator[nodes.Node]:
        """Plain beside lean, and the memory of fresh processes."""
        works = {
            title: work["rows"] for title, work in record["work"].items() if LEAN in work["rows"]
        }
        shown = [way for way in SUMMARISED if any(way in ways for ways in works.values())]
        rows = []
        for title, ways in works.items():
            cells = [title, _mebibytes(ways[PLAIN])]
            for way in shown:
                row = ways.get(way)
                cells += (
                    ["-", "-"] if row is None else [_mebibytes(row), f"{row['time_ratio']:.2f}"]
                )
            rows.append(cells)
        columns = [heading for way in shown for heading in (SUMMARISED[way], "time")]
        headings = ["work", "plain keeps", *columns]
        yield make_table(headings, rows, title="Kept for backward, and time")
        rows = [
            [
                title,
                *(
                    _mebibytes(ways.get(way, {}), "process_bytes")
                    for way in (PLAIN, LEAN, RECOMPUTE)
                ),
            ]
            for title, ways in works.items()
            if ways[PLAIN].get("process_bytes")
        ]
        if rows:
            yield make_table(
                ["work", "plain", "lean", "recompute"],
                rows,
                title="By how much a step raises the memory of a fresh process, network included",
            )


class SavingRecord(_Record):
    """One table for the steps of all networks, and one for what peers do."""

    def measured(self, record: dict[str, Any]) -> str:
        """How it was measured."""
        return (
            f" {record['threads']} threads, median of {record['turns']} turns; time is relative to "
            "plain in the same process."
        )

    def tables(self, record: dict[str, Any]) -> Iterator[nodes.Node]:
        """Kept bytes, peaks and time of each way, as shares of plain's."""
        for key, title in (("kept_bytes", "Kept for backward"), ("peak_bytes", "Peak of a step")):
            ways = list(dict.fromkeys(w for work in record["work"].values() for w in work["rows"]))
            rows = [
                [name, *(self._share(work["rows"], way, key) for way in ways)]
                for name, work in record["work"].items()
            ]
            yield make_table(["network and step", *ways], rows, title=title)
        rows = [
            [name, *(self._time(work["rows"].get(way, {})) for way in ways)]
            for name, work in record["work"].items()
        ]
        yield make_table(["network and step", *ways], rows, title="Time, relative to plain")

    @staticmethod
    def _share(rows: dict[str, Any], way: str, key: str) -> str:
        """Plain's in MiB, of the others the share of it."""
        row, plain = rows.get(way, {}), next(iter(rows.values()))
        if row.get(key) is None:
            return "-"
        return _mebibytes(row, key) if row is plain else f"{row[key] / plain[key]:.2f}"

    @staticmethod
    def _time(row: dict[str, Any]) -> str:
        if "time_ratio" not in row:
            return row.get("failed", "-")
        gradients = row.get("gradients", "")
        missing = f", {gradients}" if "missing" in gradients else ""
        return f"{row['time_ratio']:.2f}{missing}"


class PenaltyRecord(SavingRecord):
    """One table for the peaks of all networks, one for the time, and one for what peers miss."""

    def measured(self, record: dict[str, Any]) -> str:
        """How it was measured."""
        return (
            f" {record['threads']} threads, median of {record['turns']} turns; time is relative to "
            "double backward by autograd in the same process."
        )

    def tables(self, record: dict[str, Any]) -> Iterator[nodes.Node]:
        """Peaks and time as shares of autograd's, and the errors of gradients."""
        works = record["work"].items()
        ways = list(next(iter(record["work"].values()))["rows"])
        headings = ["network", "goes by", *ways]
        rows = [
            [n, w["method"], *(self._share(w["rows"], way, "peak_bytes") for way in ways)]
            for n, w in works
        ]
        yield make_table(headings, rows, title="Peak of a step of R1")
        rows = [
            [n, w["method"], *(self._time(w["rows"].get(way, {})) for way in ways)]
            for n, w in works
        ]
        yield make_table(headings, rows, title="Time, relative to autograd")
        rows = [
            [n, f"{w['rows']['gradient_penalty']['difference']:.0e}", *self._bias(w["rows"])]
            for n, w in works
        ]
        headings = [
            "network",
            "gradient_penalty, largest difference",
            "finite difference, off in the value",
            "its mean, off in the gradient",
            "one of it, off in the gradient",
        ]
        yield make_table(headings, rows, title="Gradients, beside autograd in float32")

    @staticmethod
    def _bias(rows: dict[str, Any]) -> list[str]:
        """Of many finite differences."""
        row = next(row for row in rows.values() if "bias_of_value" in row)
        return [
            f"{row['bias_of_value']:+.0%}",
            f"{row['bias_of_gradient']:.0%}",
            f"{row['error_of_gradient']:.0%}",
        ]


class CountingRecord(_Record):
    """What other tools count of the same networks, and what they leave changed."""

    def measured(self, record: dict[str, Any]) -> str:
        """Nothing more to say: they are counts."""
        del record
        return ""

    def tables(self, record: dict[str, Any]) -> Iterator[nodes.Node]:
        """MACs and peaks of each network."""
        for name, network in record["networks"].items():
            for what, title in (
                ("macs", "MACs of convolutions and linear layers"),
                ("peak", "peak of a training step with Adam, bytes"),
            ):
                ours = network[what][LEAN]["value"]
                rows = [
                    [
                        tool,
                        f"{row['value']:,}",
                        f"{row['value'] / ours:.3f}",
                        ", ".join(row["changed"]) or "nothing",
                    ]
                    if "value" in row
                    else [tool, "-", "-", row.get("failed") or "not installed"]
                    for tool, row in network[what].items()
                ]
                shape = " x ".join(map(str, network["shape"]))
                yield make_table(
                    ["tool", "count", "of ours", "left changed"],
                    rows,
                    title=f"{name}, {shape}: {title}",
                )


class JudgingRecord(_Record):
    """What it takes to judge a GAN."""

    def measured(self, record: dict[str, Any]) -> str:
        """How it was measured."""
        return f" {record['threads']} threads, median of {record['repeats']} turns."

    def tables(self, record: dict[str, Any]) -> Iterator[nodes.Node]:
        """Manifold metrics beside the reference, and iterations with a watch."""
        rows = [
            [
                name,
                f"{row['seconds']:.1f} s",
                _mebibytes(row, "process_bytes"),
                f"{row['difference']:.0e}" if "difference" in row else "-",
            ]
            for name, row in record["manifolds"].items()
        ]
        title = (
            "Precision, recall, density and coverage, "
            f"{record['samples']:,} x {record['features']} features"
        )
        headings = ["by", "time", "process rises by", "largest difference"]
        yield make_table(headings, rows, title=title)
        rows = [
            [
                case,
                f"{1000 * row['seconds']:.0f} ms",
                f"{row['time_ratio']:.3f}",
                f"{row['lowest']:.3f} to {row['highest']:.3f}",
            ]
            for case, row in record["watch"].items()
        ]
        headings = ["discriminator", "iteration", "with a watch, relative", "over the turns"]
        yield make_table(headings, rows, title="An iteration with a watch that reads all of them")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    app.add_directive("lean-record", LeanRecord)
    app.add_directive("lean-summary", LeanSummary)
    app.add_directive("saving-record", SavingRecord)
    app.add_directive("penalty-record", PenaltyRecord)
    app.add_directive("counting-record", CountingRecord)
    app.add_directive("judging-record", JudgingRecord)
    return {"parallel_read_safe": True}
