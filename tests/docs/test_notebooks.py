"""The downloads run where they are unpacked: an empty folder, far from this repository."""

import re
import zipfile

import pytest

pytestmark = pytest.mark.slow

INSTALL = "pip install"
RST = re.compile(r"\.\. [a-z-]+::|:[a-z]+:`")


def unpack(site, name, folder):
    (packed,) = (site / "_downloads").glob(f"*/{name}.zip")
    with zipfile.ZipFile(packed) as files:
        files.extractall(folder)
    return folder / f"{name}.ipynb"


@pytest.mark.parametrize("name", ["case_6_inception_8", "the_six_cases", "dense_block"])
def test_notebook_runs(site, tmp_path, monkeypatch, name):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("MPLBACKEND", raising=False)  # a notebook shows its figures
    notebook = nbformat.read(unpack(site, name, tmp_path), as_version=4)
    first = notebook.cells[0]
    line = first.source.partition("\n")[0]
    assert INSTALL in line
    assert "[study]" in line
    assert "index" in line or "git+" in line, "no package index has it"
    first.source = first.source.partition("\n")[2]  # it is installed
    client = nbclient.NotebookClient(
        notebook, timeout=180, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    shown = [
        kind
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        for kind in output.get("data", ())
    ]
    assert {"image/png", "text/html"} & set(shown), "no picture came out"


def test_both_downloads_hold_the_same_notebook(site, tmp_path):
    notebooks = {path.name: path for path in (site / "_downloads").glob("*/*.ipynb")}
    assert len(notebooks) >= 11
    for name, path in notebooks.items():
        packed = unpack(site, path.stem, tmp_path / path.stem)
        assert packed.read_bytes() == path.read_bytes(), name
        assert not RST.search(path.read_text(encoding="utf-8")), name
