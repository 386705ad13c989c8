from __future__ import annotations

import base64
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from gaslayers.models import CASES
from gaslayers.study.config import PRESET_NOTES
from gaslayers.study.records import RunFolder
from gaslayers.study.report import write_report
from gaslayers.study.report.page import name_groups
from gaslayers.study.report.runs import read_study
from gaslayers.study.report.sheet import DPI, WIDTH

pytestmark = pytest.mark.slow

SHORT = {"iterations": 3, "log_every": 1, "sample_every": 2}
PICTURES = ["generator_loss.png", "discriminator_loss.png", "samples.png", "training.gif"]
SUMMARIES = ["summary.md", "summary.html"]


class Page(HTMLParser):
    """The pictures and the text of a page; complains of tags that do not match."""

    VOID = ("meta", "img")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.images: list[dict[str, str | None]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_report_writes_pictures_and_summaries_and_nothing_else(reported):
    out, paths, created = reported
    assert paths == [out / name for name in PICTURES + SUMMARIES]
    assert created == set(paths)
    for name in PICTURES[:3]:
        with Image.open(out / name) as picture:
            assert picture.format == "PNG"
            assert picture.width == round(WIDTH * DPI) == 1392
            assert 700 < picture.height < 1700
    with Image.open(out / "training.gif") as picture:
        assert picture.n_frames == 2
        assert picture.width == 696


def test_report_repeats_itself_byte_for_byte(reported, tmp_path):
    again = tmp_path / "elsewhere"
    shutil.copytree(reported.out, again, ignore=shutil.ignore_patterns("*.gif", "*.html", "*.md"))
    for path in write_report(again):
        assert path.read_bytes() == (reported.out / path.name).read_bytes(), path.name


def test_page_stands_alone_and_describes_every_picture(reported):
    page = Page(reported.out / "summary.html")
    assert len(page.images) == len(PICTURES)
    for image, name in zip(page.images, PICTURES, strict=True):
        head, _, content = image["src"].partition(",")
        assert head == f"data:image/{name[-3:]};base64"
        assert base64.b64decode(content) == (reported.out / name).read_bytes()
        assert len(image["alt"]) > 50
    html = (reported.out / "summary.html").read_text()
    assert "://" not in html
    assert "prefers-color-scheme: dark" in html
    assert 'name="viewport" content="width=device-width' in html


@pytest.mark.parametrize("name", SUMMARIES)
def test_summary_shows_tables_note_data_and_unfinished_runs(reported, name):
    path = reported.out / name
    text = Page(path).text if name.endswith("html") else path.read_text()
    assert PRESET_NOTES["quick"] in text
    assert "data: synthetic shapes" in text
    assert "inception_8-as_coded-seed0" in text
    for case in CASES[:4]:
        folder = RunFolder(reported.out / f"{case}-as_coded-seed0")
        record, last = folder.read_record(), folder.read_curves()[-1]
        assert f"{record.discriminator_parameters:,}" in text
        assert f"{last.discriminator_loss:.4g}" in text
        assert f"{last.generator_loss:.4g}" in text
        assert record.config_hash[:12] in text
        assert record.code_hash[:12] in text


def test_descriptions_of_losses_name_last_values_and_gaps(reported):
    for loss, image in zip(
        ("generator", "discriminator"), Page(reported.out / "summary.html").images[:2], strict=True
    ):
        for case in CASES[:4]:
            last = RunFolder(reported.out / f"{case}-as_coded-seed0").read_curves()[-1]
            assert f"{case} {getattr(last, f'{loss}_loss'):.3g};" in image["alt"]
        assert "inception_16 not run; inception_8 unfinished." in image["alt"]


def test_markdown_tables_keep_their_shape_and_pictures_their_names(reported):
    text = (reported.out / "summary.md").read_text()
    for name in PICTURES:
        assert f"]({name})" in text
    assert "synthetic &lt;processor&gt; \\| of two parts" in text
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    outcome, cost, provenance, hashes = tables
    assert len(outcome) == len(cost) == len(hashes) == 2 + 4
    assert len(provenance) > 20
    for table in tables:
        assert len({line.replace("\\|", "").count("|") for line in table}) == 1, table
    assert "\n\n\n" not in text


def test_page_escapes_what_records_say(reported):
    path = reported.out / "summary.html"
    assert "<processor>" not in path.read_text()
    assert "synthetic <processor> | of two parts" in Page(path).text


def test_report_of_several_variants_has_pictures_of_each(write_run, tmp_path):
    write_run("original", **SHORT)
    write_run("original", variant="modern", **SHORT)
    paths = write_report(tmp_path)
    modern = ["generator_loss-modern.png", "discriminator_loss-modern.png"]
    modern += ["samples-modern.png", "training-modern.gif"]
    assert [path.name for path in paths] == PICTURES + modern + SUMMARIES
    page = Page(tmp_path / "summary.html")
    assert len(page.images) == 8
    assert "Six discriminators, as coded in 2018" in page.text
    assert "Six discriminators, modern" in page.text
    assert page.text.count("2018 original") == 1


def test_suffixes_tell_all_groups_apart(write_run, tmp_path):
    for number, case in enumerate(CASES[:4]):
        write_run(case, preset="narrow" if case == "original" else "quick", **SHORT, seed=number)
    write_run("inception_16", batch_size=8, **SHORT)
    write_run("inception_8", batch_size=16, **SHORT)
    write_run("original", variant="modern", **SHORT)
    groups = read_study(tmp_path).groups
    assert name_groups(groups) == [
        "",
        "-as_coded",
        "-as_coded-quick",
        "-as_coded-quick-2",
        "-modern",
    ]


def test_report_of_a_run_without_samples_leaves_the_animation_out(write_run, tmp_path):
    write_run("original", non_finite_after=0, **SHORT)
    assert [path.name for path in write_report(tmp_path)] == PICTURES[:3] + SUMMARIES


def test_report_refuses_what_is_no_path(tmp_path):
    match = r"write_report: `{}` must be a pathlib\.Path, got 'runs'"
    with pytest.raises(TypeError, match=match.format("folder")):
        write_report("runs")
    with pytest.raises(TypeError, match=match.format("out")):
        write_report(tmp_path, "runs")


def test_report_of_a_broken_record_writes_nothing(write_run, tmp_path):
    write_run("inception_8", **SHORT)
    record_path = tmp_path / write_run("original", **SHORT).config.name / "record.json"
    record_path.write_text("{")
    before = set(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"original-as_coded-seed0/record\.json` must fit"):
        write_report(tmp_path)
    assert set(tmp_path.iterdir()) == before
