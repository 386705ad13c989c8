"""The command as it is installed."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

RUN = """
import sys
for missing in {missing!r}:
    sys.modules[missing] = None  # as if it were not installed
from gaslayers.cli import run
sys.argv = ["gaslayers", "--help"]
run()
"""


def _run(*missing: str) -> subprocess.CompletedProcess[str]:
    code = RUN.format(missing=missing)
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300
    )


def test_without_its_extra_the_command_says_how_to_install_it() -> None:
    done = _run("typer")
    assert done.returncode == 1
    assert done.stderr.startswith("gaslayers: the command takes typer, which is not installed.")
    assert "pip install 'gaslayers[study]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_with_it_the_command_runs() -> None:
    done = _run()
    assert done.returncode == 0
    assert "cost" in done.stdout


def test_the_installed_command_is_this_one() -> None:
    (entry,) = entry_points(group="console_scripts", name="gaslayers")
    assert entry.value == "gaslayers.cli:run"
