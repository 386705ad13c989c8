"""The picture of the benchmark of saving is that of the record beside it."""

from __future__ import annotations

import json
import re

import pytest
from typer.testing import CliRunner

from benchmarks.saving import LEAN, PLAIN, TIMELINE
from benchmarks.saving_chart import RECORDS, app, digest_of, draw


def test_the_committed_picture_is_of_the_committed_record() -> None:
    picture = (RECORDS / "saving.svg").read_text(encoding="utf-8")
    assert digest_of((RECORDS / "saving.json").read_bytes()) in picture


def test_bars_are_shares_of_plain_and_lines_the_step() -> None:
    record = json.loads((RECORDS / "saving.json").read_bytes())
    bars, line = draw(record).axes
    name, kind = TIMELINE
    rows = record["work"][f"{name}: {kind.value}"]["rows"]
    share = rows[LEAN]["kept_bytes"] / rows[PLAIN]["kept_bytes"]
    names = [label.get_text() for label in bars.get_yticklabels()]
    assert bars.containers[0][names.index(name)].get_width() == pytest.approx(share)
    plain, lean = (max(found.get_ydata()) * 2**20 for found in line.lines)
    assert plain == pytest.approx(rows[PLAIN]["peak_bytes"])
    assert lean == pytest.approx(rows[LEAN]["peak_bytes"])


def test_the_command_writes_the_same_picture_twice(tmp_path) -> None:
    pictures = []
    for name in ("a.svg", "b.svg"):
        ended = CliRunner().invoke(app, ["--out", str(tmp_path / name)])
        assert ended.exit_code == 0, ended.output
        pictures.append((tmp_path / name).read_text(encoding="utf-8"))
    assert pictures[0] == pictures[1]
    assert re.search(r"[0-9a-f]{64}", pictures[0])
