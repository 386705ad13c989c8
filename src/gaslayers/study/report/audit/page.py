"""The audit as a page: six sentences, then what they rest on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from matplotlib import style

from gaslayers.study.audit import Audit, ClaimVerdict, Setting, audit
from gaslayers.study.metrics.scores import name_metric
from gaslayers.study.records import write_atomically
from gaslayers.study.report.audit.curves import draw_bands
from gaslayers.study.report.audit.factors import draw_factors
from gaslayers.study.report.audit.pareto import draw_pareto
from gaslayers.study.report.audit.samples import draw_final_samples
from gaslayers.study.report.audit.scores import draw_scores
from gaslayers.study.report.audit.words import factors_of
from gaslayers.study.report.page import make_environment
from gaslayers.study.report.pictures import Picture
from gaslayers.study.report.sheet import render
from gaslayers.study.report.tables import Table
from gaslayers.study.statistics import summarise

PAGES = ("audit.md", "audit.html")


@dataclass(frozen=True)
class Family:
    """What the page shows of one family of the grid."""

    name: str
    settings: tuple[Setting, ...]
    table: Table
    pictures: tuple[Picture, ...]


def write_audit(sweep: Path, out: Path | None = None) -> list[Path]:
    """Judge the claims of a sweep and write pages and pictures, all from records.

    Args:
        sweep: The sweep's folder.
        out: Where the pages go; None: into the sweep's folder.

    Returns:
        The files written: pictures, then ``audit.md`` and ``audit.html``.

    Raises:
        FileNotFoundError: There are no hypotheses, or no finished run.
        ValueError: A file does not fit, or a record is of other hypotheses.
    """
    target = sweep if out is None else out
    found = audit(sweep)
    families = draw_families(found)
    pareto = draw_overview(found)
    pictures = [*pareto, *(picture for family in families for picture in family.pictures)]
    files = {picture.name: picture.content for picture in pictures}
    environment = make_environment()
    for name in PAGES:
        text = environment.get_template(f"{name}.j2").render(
            sentences=[sentence_of(verdict) for verdict in found.claims],
            claims=found.claims,
            questions=found.questions,
            hypotheses=found.hypotheses,
            overview=pareto,
            families=families,
            provenance=provenance_of(found),
        )
        files[name] = text.encode()
    for name, content in files.items():
        write_atomically(target / name, content)
    return [target / name for name in files]


def sentence_of(verdict: ClaimVerdict) -> str:
    """The verdict on a claim in one sentence."""
    words = "; ".join(f"{when}: {word}" for when, word in verdict.words.items())
    return f"“{verdict.claim.statement}” {words[0].upper()}{words[1:]}."


@style.context("default")  # whatever the caller's own pictures look like
def draw_overview(found: Audit) -> list[Picture]:
    """Quality against memory, of all settings that were trained as one would today."""
    today = [setting for setting in found.settings if setting.variant == "modern"]
    figure = draw_pareto(today, found.hypotheses.metric) if today else None
    if figure is None:
        return []
    words = f"Quality against bytes of a D step, of {len(today)} settings."
    return [Picture("pareto.png", render(figure), words)]


@style.context("default")
def draw_families(found: Audit) -> list[Family]:
    """Table and pictures of every family."""
    families = []
    metric = found.hypotheses.metric
    for name, members in groupby(found.settings, key=lambda setting: setting.family):
        settings = tuple(members)
        title = name.replace("_", " ")
        figures = {
            "scores": draw_scores(settings, metric, f"Scores: {title}"),
            "losses": draw_bands(settings, f"Losses: {title}"),
            "samples": draw_final_samples(settings, f"Samples: {title}"),
        }
        if len({setting.case for setting in settings}) == 1 and len(factors_of(settings)) > 1:
            figures["factors"] = draw_factors(settings, metric, f"Factors: {title}")
        table = table_of(settings, metric)
        pictures = tuple(
            Picture(f"{name}_{kind}.png", render(figure), _describe(kind, settings, metric))
            for kind, figure in figures.items()
        )
        families.append(Family(name, settings, table, pictures))
    return families


def table_of(settings: Iterable[Setting], metric: str) -> Table:
    """A row a setting: how its runs ended, their score, and what its D costs."""
    headings = [
        "setting",
        "healthy",
        "failed as",
        f"{name_metric(metric)}, median",
        "interquartile mean, 95 % interval",
        "fewest classes seen",
        "D parameters",
        "D step saves, MiB",
        "lean, MiB",
    ]
    return Table(headings, [_row(setting, metric) for setting in settings])


def _row(setting: Setting, metric: str) -> list[str]:
    summary = summarise(setting.scores(metric))
    failed = setting.failures()
    kinds = Counter(setting.runs[seed].verdict.name for seed in failed)
    interval = summary.interval
    middle = f"{summary.interquartile_mean:.3g}"
    if interval is not None:
        middle += f" ({interval.low:.3g} to {interval.high:.3g})"
    record = setting.first.record
    memory = record.memory_predicted
    evaluations = [judged.run.record.evaluation for judged in setting.runs.values()]
    seen = [
        evaluation.classes_seen.value
        for evaluation in evaluations
        if evaluation is not None and evaluation.classes_seen is not None
    ]
    return [
        setting.title,
        f"{len(setting.runs) - len(failed)} of {len(setting.runs)}",
        ", ".join(f"{name} {count}" for name, count in kinds.items()) or "-",
        f"{summary.median:.3g}",
        middle,
        f"{min(seen):g}" if seen else "-",
        f"{record.discriminator_parameters:,}",
        "-" if memory is None else f"{memory.saved_bytes_plain / 2**20:.2f}",
        "-" if memory is None else f"{memory.saved_bytes / 2**20:.2f}",
    ]


def _describe(kind: str, settings: tuple[Setting, ...], metric: str) -> str:
    """What a picture shows, for those who cannot see it."""
    if kind in ("scores", "factors"):
        shown = [
            f"{setting.title} {summarise(setting.scores(metric)).median:.3g}"
            for setting in settings
        ]
        return f"{name_metric(metric)}, medians: {'; '.join(shown)}."
    names = "; ".join(setting.title for setting in settings)
    what = "Losses over iterations" if kind == "losses" else "Grids of 32 generated digits"
    return f"{what}: {names}."


def provenance_of(found: Audit) -> dict[str, str]:
    """Where the numbers come from."""
    records = [judged.run.record for setting in found.settings for judged in setting.runs.values()]

    def distinct(values: Iterable[object]) -> str:
        return ", ".join(dict.fromkeys(map(str, values)))

    return {
        "runs": str(len(records)),
        "hypotheses, SHA-256": found.hypotheses.sha256,
        "data, SHA-256": distinct(record.config.data_sha256 for record in records),
        "features": distinct(record.evaluation.features for record in records if record.evaluation),
        "gaslayers": distinct(record.machine.gaslayers for record in records),
        "PyTorch": distinct(record.machine.torch for record in records),
        "processor": distinct(record.machine.processor for record in records),
        "processor hours": f"{sum(record.processor_seconds for record in records) / 3600:.1f}",
        "stopping rule": " ".join(found.hypotheses.stopping.split()),
    }
