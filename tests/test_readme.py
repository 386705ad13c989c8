"""README.md: its example prints what it says, its two commands are where `.ci/run` looks."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

from gaslayers.lean.native.availability import are_compiled
from tools.update_readme import updated

README = Path(__file__).resolve().parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")


def test_examples_print_what_they_say() -> None:
    examples = "\n".join(re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))
    test = doctest.DocTestParser().get_doctest(examples, {}, "README.md", str(README), 0)
    assert test.examples
    report: list[str] = []
    doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    assert not report, "".join(report)


@pytest.mark.parametrize("name", ["study", "tests"])
def test_command_is_one_line_under_its_marker(name: str) -> None:
    blocks = re.findall(
        rf"^<!-- ci: {name} -->\n```bash\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL
    )
    assert len(blocks) == 1
    assert len(blocks[0].splitlines()) == 1


@pytest.mark.skipif(
    not are_compiled(), reason="no kernels, which pack what lean paths keep of pooling"
)
def test_tables_are_those_of_the_records_and_of_the_code() -> None:
    assert updated(TEXT) == TEXT, "run python tools/update_readme.py"
