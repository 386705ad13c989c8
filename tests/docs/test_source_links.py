"""Source links of the API pages lead to the line that defines a name."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def find_source(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_ext"))
    return pytest.importorskip("source_links").find_source


@pytest.mark.parametrize(
    ("module", "name", "line"),
    [
        ("gaslayers", "DenseBlock", "class DenseBlock("),
        ("gaslayers", "DenseBlock.forward", "def forward("),
        ("gaslayers", "count", "def count("),
        ("gaslayers.models", "build_discriminator", "def build_discriminator("),
        ("gaslayers.accounting", "PeakReport", "@dataclass"),
    ],
)
def test_link_leads_to_the_definition(find_source, module, name, line):
    path, _, number = find_source(module, name).partition("#L")
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    assert lines[int(number) - 1].strip().startswith(line)


def test_data_and_names_of_others_have_no_link(find_source):
    assert find_source("gaslayers.models", "CASES") is None
    assert find_source("gaslayers", "DenseBlock.train") is None
