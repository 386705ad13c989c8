"""The tests of one file that need CUDA, counted, with the names of those that fail.

python -m benchmarks.gpu_tests tests/accounting/test_measured.py --out tests.json
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer

from benchmarks.pieces import ROOT
from gaslayers.study.records import write_atomically

MARK = "mark.cuda"


def files_with_cuda_tests() -> list[str]:
    """The files of the suite in which a test is marked as needing CUDA."""
    return [
        path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        if MARK in path.read_text(encoding="utf-8")
    ]


class _Outcomes:
    """A plugin that counts."""

    def __init__(self) -> None:
        self.counts = {"passed": 0, "failed": 0, "skipped": 0}
        self.failures: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # A test that passes does so when it is called; it can also fail or be skipped around that.
        if report.failed and report.nodeid not in self.failures:
            self.counts["failed"] += 1
            self.failures[report.nodeid] = str(report.longrepr).strip().splitlines()[-1][:200]
        elif report.skipped or (report.passed and report.when == "call"):
            self.counts[report.outcome] += 1


def run_tests(file: str) -> dict[str, Any]:
    """Run the tests of this file that are marked.

    Raises:
        RuntimeError: pytest could not collect or run them.
    """
    outcomes = _Outcomes()
    code = pytest.main(["-q", "-m", "cuda", "-p", "no:cacheprovider", file], plugins=[outcomes])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) or not any(
        outcomes.counts.values()
    ):
        raise RuntimeError(f"pytest ended with {pytest.ExitCode(code).name} and ran no test")
    return {**outcomes.counts, "failures": outcomes.failures}


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    file: Annotated[str, typer.Argument(help="Of the suite.")],
    out: Annotated[Path, typer.Option(help="The JSON file.")] = Path("gpu_tests.json"),
) -> None:
    """Run one file's tests."""
    write_atomically(out, (json.dumps(run_tests(file), indent=1) + "\n").encode())


if __name__ == "__main__":
    app()
