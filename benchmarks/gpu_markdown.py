"""The record of a GPU as tables of cells, for the terminal and for the results page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

MEBIBYTE = 2**20


class Table(NamedTuple):
    """One table of a record."""

    title: str
    headings: list[str]
    rows: list[list[str]]


def _size(value: int | None) -> str:
    return "-" if value is None else f"{value / MEBIBYTE:.2f}"


def cases_table(record: dict[str, Any]) -> Table:
    """The four names of memory of each case."""
    names = ("predicted", "allocated", "reserved", "process")
    rows = [
        [title, *(_size(found[name]) for name in names)] for title, found in record["cases"].items()
    ]
    return Table("The six cases, an iteration, MiB", ["case", *names], rows)


def lean_table(record: dict[str, Any]) -> Table:
    """Every way of every piece of work."""
    headings = ["work", "path", "kept, MiB", "allocated, MiB", "reserved, MiB", "time", "gradients"]
    rows = [
        [
            title,
            name,
            *(_size(row[key]) for key in ("kept_bytes", "allocated", "reserved")),
            f"{row['time_ratio']:.2f}",
            row["gradients"],
        ]
        for title, work in record["table"].items()
        for name, row in work["rows"].items()
    ]
    return Table("Lean against plain", headings, rows)


def tests_table(record: dict[str, Any]) -> Table:
    """How many tests of each file passed, failed and were skipped, and which failed."""
    counts = ("passed", "failed", "skipped")
    rows = [
        [file, *(str(found[name]) for name in counts), ", ".join(found["failures"]) or "none"]
        for file, found in record["tests"].items()
    ]
    return Table("Tests that need CUDA", ["file", *counts, "failures"], rows)


def all_tables(record: dict[str, Any]) -> Iterator[Table]:
    """Every table of which the record has a row, and what it lacks."""
    for table in (cases_table(record), tests_table(record), lean_table(record)):
        if table.rows:
            yield table
    if record["unfinished"]:
        rows = [[name, reason] for name, reason in record["unfinished"].items()]
        yield Table("Not measured", ["piece", "reason"], rows)


def provenance_of(record: dict[str, Any]) -> str:
    """What it was measured on, as a sentence."""
    device = record["device"]
    versions = ", ".join(
        f"{name} {device[key]}"
        for key, name in (("driver", "driver"), ("cuda", "CUDA"), ("cudnn", "cuDNN"))
        if device.get(key)
    )
    parts = [record["cases"], record["tests"], record["table"]]
    commits = dict.fromkeys(piece["commit"] for part in parts for piece in part.values())
    commits.pop(record["run"]["commit"], None)
    later = f" Parts of it were measured on {', '.join(map(str, commits))}." if commits else ""
    return (
        f"{device['name']}{f' ({versions})' if versions else ''}; {record['run']['summary']}{later}"
    )


def to_markdown(record: dict[str, Any]) -> str:
    """The record's tables in Markdown."""
    lines = []
    for table in all_tables(record):
        lines += [f"### {table.title}", "", f"| {' | '.join(table.headings)} |"]
        lines += ["|" + "---|" * len(table.headings)]
        lines += [f"| {' | '.join(row)} |" for row in table.rows]
        lines.append("")
    lines.append(provenance_of(record))
    return "\n".join(lines)
