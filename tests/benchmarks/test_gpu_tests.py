"""Which tests the GPU benchmark runs, and how it counts them."""

from __future__ import annotations

import pytest

from benchmarks import gpu_tests
from benchmarks.pieces import ROOT

FILE = """
import pytest

@pytest.mark.cuda
def test_that_passes():
    pass

@pytest.mark.cuda
def test_that_fails():
    assert 1 == 2

@pytest.mark.cuda
def test_that_is_skipped():
    pytest.skip("for a reason")

@pytest.fixture
def broken():
    raise KeyError("gone")

@pytest.mark.cuda
def test_that_cannot_start(broken):
    pass

def test_of_a_cpu():
    raise AssertionError
"""


@pytest.fixture
def count(tmp_path):
    """Runs the marked tests of a file with this content."""

    def count(content):
        path = tmp_path / "test_some.py"
        path.write_text(content)
        (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = cuda\n")
        return gpu_tests.run_tests(str(path))

    return count


def test_outcomes_are_counted_and_failures_named(count):
    found = count(FILE)
    assert (found["passed"], found["failed"], found["skipped"]) == (1, 2, 1)
    said = {name.rpartition("::")[2]: reason for name, reason in found["failures"].items()}
    assert list(said) == ["test_that_fails", "test_that_cannot_start"]
    assert "KeyError" in said["test_that_cannot_start"]


@pytest.mark.parametrize("content", ["import nothing_of_this_name", "def test_of_a_cpu(): pass"])
def test_file_of_which_no_test_ran_is_no_result(count, content):
    with pytest.raises(RuntimeError, match=r"pytest ended with \w+ and ran no test"):
        count(content)


def test_every_test_that_asks_for_cuda_is_marked():
    marked = gpu_tests.files_with_cuda_tests()
    assert {"tests/accounting/test_measured.py", "tests/lean/test_cuda.py"} <= set(marked)
    for path in (ROOT / "tests").rglob("test_*.py"):
        text = path.read_text(encoding="utf-8")
        asks = "skipif(not torch." + "cuda.is_available()" in text
        assert not asks, f"{path}: mark it with pytest.mark.cuda instead"
