"""Pages refuse records that are missing or are not of the code."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from gaslayers.models import CASES

ROOT = Path(__file__).resolve().parents[2]
CASE = "inception_8"
SCRIPT = ROOT / "examples" / "study" / f"case_6_{CASE}.py"


@pytest.fixture
def records(tmp_path):
    """A copy of the records that may be broken."""
    ignored = shutil.ignore_patterns("*.safetensors", "*.lock")
    source = ROOT / "examples" / "records" / "faithful"
    folder = tmp_path / "examples" / "records" / "faithful"
    shutil.copytree(source, folder, ignore=ignored)
    return folder


@pytest.fixture
def recorded(monkeypatch, tmp_path):
    pytest.importorskip("sphinx")
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_ext"))
    module = pytest.importorskip("recorded")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    return module


@pytest.fixture
def directive():
    return SimpleNamespace(
        get_location=lambda: "results/index.rst:17",
        env=SimpleNamespace(note_dependency=lambda path: None),
    )


def test_page_reads_the_cases_in_the_studys_order(records, recorded, directive):
    runs = recorded.read_cases(directive, "faithful")
    assert [run.config.case for run in runs] == list(CASES)


@pytest.mark.parametrize("name", ["record.json", "curves.csv"])
def test_page_names_a_missing_record(records, recorded, directive, name):
    (records / f"{CASE}-as_coded-seed0" / name).unlink()
    errors = pytest.importorskip("sphinx.errors")
    with pytest.raises(errors.ExtensionError, match=rf"index\.rst:17: .*{CASE}.*{name}"):
        recorded.read_cases(directive, "faithful")


def run_script(records):
    return subprocess.run(
        [sys.executable, SCRIPT, "--records", records], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_script_names_a_missing_record(records):
    (records / f"{CASE}-as_coded-seed0" / "record.json").unlink()
    ended = run_script(records)
    assert ended.returncode != 0
    assert f"{CASE}-as_coded-seed0" in ended.stderr
    assert "record.json" in ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("field", "said"), [("config_hash", "another configuration"), ("code_hash", "another code")]
)
def test_script_refuses_a_record_of_other_code(records, field, said):
    path = records / f"{CASE}-as_coded-seed0" / "record.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    record[field] = "0" * 64
    path.write_text(json.dumps(record), encoding="utf-8")
    ended = run_script(records)
    assert ended.returncode != 0
    assert "StaleRecordError" in ended.stderr
    assert said in ended.stderr
