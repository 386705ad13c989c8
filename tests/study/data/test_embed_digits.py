from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gaslayers.study.data import load_digits
from gaslayers.study.data.digits import EMBEDDED, EMBEDDED_PATH

TOOL = Path(__file__).parents[3] / "tools" / "embed_digits.py"


@pytest.fixture
def digits():
    """The embedded digits with a tail that the tool has to leave out, as MNIST has one."""
    embedded = load_digits()
    return replace(
        embedded,
        images=torch.cat([embedded.images, embedded.images[:5]]),
        labels=torch.cat([embedded.labels, embedded.labels[:5]]),
    )


@pytest.fixture
def tool(digits, monkeypatch):
    spec = importlib.util.spec_from_file_location("embed_digits", TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.setattr(tool, "load_digits", lambda root: digits)
    return tool


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_embed_digits_makes_the_asset_again(tool, tmp_path, capsys):
    rebuilt = tmp_path / "rebuilt.npz"
    status = tool.main(["root", "--output", str(rebuilt)])
    # Another zlib may pack the same arrays into other bytes; the tool then says so.
    assert status == (sha256(rebuilt) != EMBEDDED.sha256)
    assert sha256(rebuilt) in capsys.readouterr().out
    with np.load(rebuilt) as made, np.load(EMBEDDED_PATH) as committed:
        assert made.files == committed.files
        for name in made.files:
            assert made[name].dtype == committed[name].dtype
            np.testing.assert_array_equal(made[name], committed[name])


def test_embed_digits_is_deterministic(tool, tmp_path):
    for name in ("a.npz", "b.npz"):
        tool.main(["root", "--output", str(tmp_path / name)])
    assert sha256(tmp_path / "a.npz") == sha256(tmp_path / "b.npz")


def test_embed_digits_fails_on_other_digits(tool, digits, tmp_path, capsys):
    digits.images[0, 0, 0] ^= 1
    assert tool.main(["root", "--output", str(tmp_path / "other.npz")]) == 1
    assert f"gaslayers expects {EMBEDDED.size} bytes" in capsys.readouterr().err


def test_embed_digits_writes_into_the_package_by_default(tool, monkeypatch, tmp_path):
    default = tmp_path / "asset.npz"
    monkeypatch.setattr(tool, "EMBEDDED_PATH", default)
    tool.main(["root"])
    assert default.is_file()
