"""The API page has every public name of every module that has public names."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
API = (ROOT / "docs" / "api.rst").read_text(encoding="utf-8")


@pytest.fixture
def site_files(monkeypatch):
    pytest.importorskip("sphinx", reason="sphinx is not installed")
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_ext"))
    return pytest.importorskip("site_files")


def test_every_public_name_is_on_the_api_page(site_files):
    assert site_files.find_names_without_page(API) == []


@pytest.mark.parametrize("module", ["gaslayers", "gaslayers.accounting", "gaslayers.study"])
def test_name_that_is_taken_off_the_page_is_missed(site_files, module):
    for name in importlib.import_module(module).__all__:
        kept = [line for line in API.splitlines() if not line.strip().endswith(f".{name}")]
        missed = site_files.find_names_without_page("\n".join(kept))
        assert {place.rpartition(".")[2] for place in missed} == {name}
