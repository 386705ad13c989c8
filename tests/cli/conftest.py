from __future__ import annotations

import pytest
import torch
from typer.testing import CliRunner

from gaslayers.cli.app import app


@pytest.fixture
def invoke(monkeypatch, tmp_path):
    """Call the command in an empty folder; its default folders land there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")  # usage errors are drawn in a box of this width
    threads = torch.get_num_threads()
    yield lambda *arguments: CliRunner().invoke(app, arguments, catch_exceptions=False)
    torch.set_num_threads(threads)
