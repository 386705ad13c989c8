"""The results page shows the record of a GPU, and says so where there is none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def shown(monkeypatch, tmp_path):
    """What the directive puts on a page, as text, with the records of a folder."""
    pytest.importorskip("sphinx")
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_ext"))
    module = pytest.importorskip("gpu_records")
    monkeypatch.setattr(module, "RECORDS", tmp_path)

    def shown():
        directive = module.GPURecords.__new__(module.GPURecords)
        document = SimpleNamespace(env=SimpleNamespace(note_dependency=lambda path: None))
        directive.state = SimpleNamespace(document=SimpleNamespace(settings=document))
        return [node.astext() for node in directive.run()]

    return shown


def test_page_says_that_there_is_no_record(shown):
    sentence, command = shown()
    assert "nothing on this site was measured on one" in sentence
    assert command == "python -m benchmarks.gpu"


def test_page_shows_every_record(shown, trial, tmp_path):
    shutil.copy(trial.out, tmp_path / "gpu-one.json")
    provenance, cases, tests, table = shown()
    assert trial.record["run"]["summary"] in provenance
    for title, found in trial.record["cases"].items():
        assert title in cases
        assert f"{found['predicted'] / 2**20:.2f}" in cases
    assert "Tests that need CUDA" in tests
    (work,) = trial.record["table"].values()
    for name, row in work["rows"].items():
        assert name in table
        assert f"{row['kept_bytes'] / 2**20:.2f}" in table


def test_page_names_what_was_not_measured(shown, trial, tmp_path):
    lacking = trial.record | {"table": {}, "unfinished": {"table: some work": "no time was left"}}
    (tmp_path / "gpu-one.json").write_text(json.dumps(lacking))
    *_, last = shown()
    assert "some work" in last
    assert "no time was left" in last
