"""The report of a study: pictures of each group of runs, and one summary of all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from gaslayers._checks import bad_type
from gaslayers.study.records import write_atomically
from gaslayers.study.report import original
from gaslayers.study.report.captions import VARIANT_WORDS, caption_lines
from gaslayers.study.report.convention import convention_of
from gaslayers.study.report.pictures import Picture, draw_pictures
from gaslayers.study.report.runs import OWNER, Group, read_study
from gaslayers.study.report.tables import (
    Table,
    cost_of,
    hashes_of,
    outcome_of,
    provenance_of,
    settings_of,
)

SUMMARIES = ("summary.md", "summary.html")


@dataclass(frozen=True)
class Section:
    """What the summary says of one group of runs; the templates read these names."""

    title: str
    lines: list[str]
    pictures: list[Picture]
    outcome: Table
    cost: Table
    provenance: dict[str, str]
    settings: dict[str, str]
    hashes: Table
    original_note: str


def write_report(folder: Path, out: Path | None = None) -> list[Path]:
    """Draw a study's pictures and write its summary, all from the records of its finished runs.

    Runs that differ in case and seed alone share their pictures: ``generator_loss.png``,
    ``discriminator_loss.png``, ``samples.png``, ``training.gif``. A folder that holds several
    variants or protocols gets a set each, told apart by a suffix (``samples-modern.png``).
    ``summary.md`` and ``summary.html`` show all of them.

    Args:
        folder: The study's folder, which holds the runs' folders.
        out: Where the report goes; None: there, too.

    Returns:
        The files written.

    Raises:
        TypeError: An argument is no path.
        FileNotFoundError: No run is finished, or a finished one lacks a file.
        ValueError: A file of a finished run is damaged.
    """
    for argument, path in (("folder", folder), ("out", folder if out is None else out)):
        if not isinstance(path, Path):
            raise bad_type(OWNER, argument, "be a pathlib.Path", path)
    target = folder if out is None else out
    study = read_study(folder)
    suffixes = name_groups(study.groups)
    sections = [
        make_section(group, suffix) for group, suffix in zip(study.groups, suffixes, strict=True)
    ]
    files = {picture.name: picture.content for part in sections for picture in part.pictures}
    environment = make_environment()
    for name in SUMMARIES:
        template = environment.get_template(f"{name}.j2")
        files[name] = template.render(sections=sections, unfinished=study.unfinished).encode()
    # The summaries come last: what they show is there already.
    for name, content in files.items():
        write_atomically(target / name, content)
    return [target / name for name in files]


def draw_study_pictures(out: Path) -> list[Picture]:
    """Draw the pictures of `write_report` without writing them.

    Raises:
        FileNotFoundError: As for `write_report`.
        ValueError: As for `write_report`.
    """
    groups = read_study(out).groups
    return [
        picture
        for group, suffix in zip(groups, name_groups(groups), strict=True)
        for picture in draw_pictures(group, suffix)
    ]


def name_groups(groups: tuple[Group, ...]) -> list[str]:
    """A suffix for each group's files: none for the first, else as short as tells it apart."""
    suffixes: list[str] = []
    for group in groups:
        variant, preset = f"-{group.config.variant}", f"-{group.preset}"
        numbered = (f"{variant}{preset}-{number}" for number in range(2, len(groups) + 2))
        candidates = ("", variant, variant + preset, *numbered)
        suffixes.append(next(name for name in candidates if name not in suffixes))
    return suffixes


def make_section(group: Group, suffix: str) -> Section:
    """Draw and tabulate one group of runs."""
    shows_original = convention_of(group.config, "generator").is_original
    return Section(
        title=f"Six discriminators, {VARIANT_WORDS[group.config.variant]}",
        lines=caption_lines(group, group.runs),
        pictures=draw_pictures(group, suffix),
        outcome=outcome_of(group),
        cost=cost_of(group),
        provenance=provenance_of(group),
        settings=settings_of(group),
        hashes=hashes_of(group),
        original_note=f"Dashed: {original.NOTE}." if shows_original else "",
    )


def make_environment() -> Environment:
    """Where the templates of all pages are."""
    # Markdown knows HTML's entities, so that one escaping serves both.
    environment = Environment(
        loader=PackageLoader("gaslayers.study.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = _escape_cell
    return environment


def _escape_cell(text: str) -> str:
    """Keep a text within its cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")
