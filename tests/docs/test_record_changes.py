"""An incremental build runs the study's scripts again when a record has changed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_pages_are_forgotten_when_a_record_changes(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_ext"))
    pytest.importorskip("sphinx", reason="sphinx is not installed")
    record_changes = pytest.importorskip("record_changes")
    records, pages = tmp_path / "records", tmp_path / "gallery" / "study"
    (records / "run").mkdir(parents=True)
    pages.mkdir(parents=True)
    record, page = records / "run" / "record.json", pages / "case.py.md5"
    record.write_text("{}", encoding="utf-8")
    monkeypatch.setattr(record_changes, "RECORDS", records)
    app = SimpleNamespace(srcdir=str(tmp_path))

    def is_remembered(error: Exception | None = None) -> bool:
        page.touch()
        record_changes.forget_pages(app)
        record_changes.remember_records(app, error)
        return page.exists()

    assert not is_remembered()  # of no known records
    assert is_remembered()
    record.write_text('{"changed": true}', encoding="utf-8")
    assert not is_remembered(error=RuntimeError("a script failed"))
    assert not is_remembered()
    assert is_remembered()
