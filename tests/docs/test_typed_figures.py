"""A number that somebody typed into a page of the study is found; what is none is left alone."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def typed(monkeypatch):
    pytest.importorskip("sphinx", reason="sphinx is not installed")
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_ext"))
    return pytest.importorskip("typed_figures")


@pytest.mark.parametrize(
    ("prose", "found"),
    [
        ("It fell to 3.5 in the end.", ["3.5"]),
        ("A spread of 1e-5 is small.", ["1e-5"]),
        ("It has 13,857 of them.", ["13,857"]),
        ("All of 12 MiB is kept.", ["12 MiB"]),
        ("Multiples of 32 MB.", ["32 MB"]),
        ("It has 56 % of them and 44% of these.", ["56 %", "44%"]),
        ("40 times less", ["40 times"]),
        ("It saves 2x there.", ["2x"]),
        ("A 3-fold gain", ["3-fold"]),
        ("After 2000 iterations", ["2000 iterations"]),
        ("It took 7 seconds,\n12 minutes", ["7 seconds", "12 minutes"]),
        (
            "until iteration 170, or at iteration about 190",
            ["iteration 170", "iteration about 190"],
        ),
        ("losses of 8 and 4 on the dot", ["losses of 8"]),
        ("L_D is 8 here", ["L_D is 8"]),
        ("It keeps four times its bytes.", ["four times"]),
        ("Tens of times closer", ["Tens of times"]),
        ("three orders of magnitude", ["orders of magnitude"]),
        ("an eighth of that, a quarter of this", ["an eighth", "a quarter"]),
        ("two thirds of it, three-quarters then", ["two thirds", "three-quarters"]),
        ("about half of the bytes", ["half of"]),
    ],
)
def test_typed_figure_is_found(typed, prose, found):
    assert typed.find_typed(prose) == found


def test_figure_of_two_kinds_is_found_once(typed):
    assert typed.find_typed("It keeps 3.5 MiB, 1.5 times as much.") == ["3.5", "1.5"]


@pytest.mark.parametrize(
    "prose",
    [
        'It published "777 MB" and "1.59x less memory".',
        "It published \N{LEFT DOUBLE QUOTATION MARK}199 MB\N{RIGHT DOUBLE QUOTATION MARK} for it.",
        "a 3x3 convolution on 28 x 28 pixels, 32 x 1 x 28 x 28 in all",
        "the study of 2018",
        "Python 3.10 or newer, gaslayers 0.1.0, arXiv:1611.04076, under CC BY-SA 3.0",
        "Inception with 32 base filters, cases 1 and 3",
        "8 means that D tells nothing apart",
        "one step of D to four of G, in four stages",
        "float32 and conv2d",
    ],
)
def test_what_is_no_typed_figure_is_left_alone(typed, prose):
    assert typed.find_typed(prose) == []


def test_quotation_marks_hide_no_figure_between_two_quotations(typed):
    assert typed.find_typed('"777 MB" fell by 9.5 to "199 MB"') == ["9.5"]


PAGE = """\
Costs of 7 MiB
==============

It keeps :record:`faithful/original parameters` parameters, ``8 MiB`` and :math:`2.5 x`.
It fell
to 3.5 there.

.. code-block:: python

   print(1.25)

.. list-table::

   * - 9 MiB

See `the 4.5 page <https://example.org>`__.
"""


def build(folder, name, source=None):
    """What the build of this page says of typed figures in a source, by default the page's own."""
    application = pytest.importorskip("sphinx.testing.util").SphinxTestApp
    settings = f"extensions = ['record_role', 'typed_figures']\nroot_doc = '{name}'\n"
    (folder / "conf.py").write_text(settings, encoding="utf-8")
    page = folder / f"{name}.rst"
    page.parent.mkdir(exist_ok=True, parents=True)
    page.write_text(PAGE, encoding="utf-8")
    app = application("html", srcdir=folder)
    try:
        app.build()
        lines = app.warning.getvalue().splitlines()
    finally:
        app.cleanup()
    source = source or f"{name}.rst"
    return [line.partition(f"{source}:")[2] for line in lines if "is typed" in line]


@pytest.mark.parametrize(
    "name",
    [
        "results/index",
        "concepts/study",
        "concepts/protocol",
        "gallery/memory/what_777_mb_measured",
        "gallery/study/any",
    ],
)
def test_build_warns_of_typed_figures_with_their_lines(typed, tmp_path, monkeypatch, name):
    monkeypatch.setattr(typed, "README", ROOT / "LICENSE")
    said = build(tmp_path, name)
    assert [line.partition(" is typed")[0] for line in said] == [
        "2: WARNING: `7 MiB`",
        "4: WARNING: `3.5`",
        "14: WARNING: `9 MiB`",
        "16: WARNING: `4.5`",
    ]


def test_other_pages_are_not_looked_at(typed, tmp_path, monkeypatch):
    monkeypatch.setattr(typed, "README", ROOT / "LICENSE")
    assert build(tmp_path, "other") == []


def test_build_warns_of_typed_figures_in_the_readme(typed, tmp_path, monkeypatch):
    readme = tmp_path / "README.md"
    readme.write_text("# Title\n\nIt keeps\n7 MiB.\n", encoding="utf-8")
    monkeypatch.setattr(typed, "README", readme)
    pages = tmp_path / "docs"
    pages.mkdir()
    (said,) = build(pages, "other", source="README.md")
    assert said.startswith("3: WARNING: `7 MiB` is typed")


def test_paragraphs_of_a_readme_leave_out_code_and_generated_tables(typed):
    text = (
        "# Title\n\nIt keeps\n7 MiB.\n\n```python\nprint(1.5)\n```\n\n"
        "<!-- generated: costs -->\n\n| 9 MiB |\n\n<!-- end generated -->\n\n"
        "`2.5 MiB` at [this](a/1.5/b), and 3.5 there.\n"
    )
    found = [
        (line, figure)
        for line, prose in typed.prose_of_readme(text)
        for figure in typed.find_typed(prose)
    ]
    assert found == [(3, "7 MiB"), (16, "3.5")]


def test_readme_has_no_typed_figure(typed):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    prose = "\n\n".join(prose for _, prose in typed.prose_of_readme(text))
    assert len(prose) > 1000
    assert typed.find_typed(prose) == []
