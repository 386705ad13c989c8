"""`gaslayers info` says of an installation what a bug report needs."""

from __future__ import annotations

import json
import platform
import subprocess
import sys

import pytest
import torch

import gaslayers
from gaslayers.lean.native import compiling, kernels, report
from gaslayers.lean.native.availability import are_compiled

RUN = """
import sys
for missing in ("typer", "torchvision", "lightning_fabric", "pydantic", "rich"):
    sys.modules[missing] = None  # as if it were not installed
from gaslayers.cli import run
sys.argv = ["gaslayers", "info"]
run()
"""


@pytest.fixture
def _fresh_answer():
    """Load the kernels anew, now and afterwards."""
    caches = (are_compiled, kernels.load)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def test_text_and_json_say_the_same(invoke) -> None:
    facts = json.loads(invoke("info", "--json").stdout)
    assert facts["versions"]["gaslayers"] == gaslayers.__version__
    assert facts["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert facts["versions"]["python"] == platform.python_version()
    assert facts["threads"]["pytorch"] == torch.get_num_threads()
    assert facts["kernels"]["capability"] == torch.backends.cpu.get_cpu_capability()
    text = invoke("info").stdout
    for told in (*facts["devices"], facts["system"], *facts["kernels"]["levels"].values()):
        assert told in text


def test_it_runs_without_the_packages_of_the_study() -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("gaslayers")
    assert "capability" in done.stdout


@pytest.mark.usefixtures("_fresh_answer")
@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"digest": "", "failures": {"DEFAULT": "no compiler: cc"}}, "no compiler: cc"),
        ({"digest": "", "failures": {}}, "the sources have changed since"),
        (None, "never built here"),
    ],
)
def test_it_says_why_there_are_no_kernels(monkeypatch, tmp_path, record, reason) -> None:
    monkeypatch.setattr(compiling, "FOLDER", tmp_path)
    for module in (compiling, kernels):
        monkeypatch.setattr(module, "library_path", lambda level: tmp_path / f"{level}.so")
    if record is not None:
        (tmp_path / compiling.RECORD).write_text(json.dumps(record))
    told = report.describe_kernels()
    assert told.running is None
    assert reason in told.levels["DEFAULT"]
    assert set(told.families.values()) == {"PyTorch's operators run: no kernels"}


@pytest.mark.skipif(not are_compiled(), reason="no kernels: nothing rounds otherwise")
def test_it_says_where_pytorch_rounds_otherwise(monkeypatch) -> None:
    assert report.describe_kernels().families["pooling"] == "runs"
    for choice in (report.pool_choice, report.norm_choice):
        monkeypatch.setattr(choice, "are_exact", lambda: False)
    told = report.describe_kernels().families
    assert set(told.values()) == {"PyTorch's operators run: they round otherwise here"}
