"""Write the tables of README.md anew: from committed records, and from what is counted here.

    python tools/update_readme.py

A table stands between ``<!-- generated: NAME -->`` and ``<!-- end generated -->``; nothing between
the two is typed by hand.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from gaslayers.accounting import saved_bytes
from gaslayers.models import CASES, build_discriminator
from gaslayers.study.report.runs import read_study
from gaslayers.study.report.tables import Table, outcome_of

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
RECORDS = ROOT / "examples" / "records"
BATCH = 32


def to_markdown(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table whose first column is words and whose others are numbers."""
    headings = list(headings)
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def summarise(preset: str) -> str:
    """How each recorded run of a preset ended."""
    tables: list[Table] = [outcome_of(group) for group in read_study(RECORDS / preset).groups]
    return "\n\n".join(to_markdown(table.headings, table.rows) for table in tables)


def kept_for_backward() -> str:
    """What a pass of each discriminator keeps, trained and frozen, in MiB."""
    rows = [
        [f"`{case}`", *(_mebibytes(case, frozen=frozen, lean=lean) for frozen, lean in _COLUMNS)]
        for case in CASES
    ]
    headings = [
        "D, as coded, batch 32, `channels_last`",
        "pass of D, plain",
        "lean",
        "frozen pass of D, plain",
        "lean",
    ]
    return to_markdown(headings, rows)


_COLUMNS = ((False, False), (False, True), (True, False), (True, True))


def _mebibytes(case: str, *, frozen: bool, lean: bool) -> str:
    torch.manual_seed(0)
    network = build_discriminator(case, memory_efficient=lean).requires_grad_(not frozen)
    images = torch.zeros(BATCH, 1, 28, 28, requires_grad=frozen)
    layout = torch.channels_last
    kept = saved_bytes(network.to(memory_format=layout), images.to(memory_format=layout))
    return f"{kept / 2**20:.2f} MiB"


TABLES: dict[str, Callable[[], str]] = {
    "kept for backward": kept_for_backward,
    "the faithful study": lambda: summarise("faithful"),
}


def updated(text: str) -> str:
    """The README with every table written anew.

    Raises:
        KeyError: A marker names a table that is not known here.
    """
    pattern = r"(<!-- generated: (.*?) -->\n).*?(<!-- end generated -->)"
    return re.sub(
        pattern,
        lambda match: f"{match[1]}\n{TABLES[match[2]]()}\n\n{match[3]}",
        text,
        flags=re.DOTALL,
    )


def main() -> None:
    """Write README.md anew."""
    README.write_text(updated(README.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"wrote {README.name}\n")


if __name__ == "__main__":
    main()
