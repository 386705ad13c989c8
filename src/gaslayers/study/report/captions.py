"""What every picture says of the runs that it shows."""

from __future__ import annotations

from collections.abc import Iterable

from gaslayers.study.config import PRESET_NOTES, PRESETS, TRAINING, RunConfig
from gaslayers.study.report.runs import Group, Run

VARIANT_WORDS = {
    "as_coded": "as coded in 2018",
    "as_described": "as described in 2018",
    "modern": "modern",
}

DATA_WORDS = {
    "embedded": "10,000 embedded MNIST digits",
    "mnist": "60,000 MNIST training digits",
}

# They change what is kept of a run, not the run.
_BOOKKEEPING = {"case", "seed", "data_sha256", "log_every", "sample_every"}


def caption_lines(group: Group, runs: Iterable[Run]) -> list[str]:
    """The lines under a picture's title: protocol with its note, training, data.

    Args:
        group: The runs that share the protocol.
        runs: Those of them that the picture shows.
    """
    config = group.config
    return [
        describe_preset(group),
        f"{config.iterations} iterations, batch {config.batch_size}, "
        f"D:G steps 1:{config.generator_steps}, {describe_seeds(runs)}; "
        f"data: {describe_data(group)}",
    ]


def describe_preset(group: Group) -> str:
    """The preset, its note, and what was changed on the command line."""
    notes = "; ".join(filter(None, (PRESET_NOTES.get(group.preset, ""), _changes(group))))
    if notes.startswith(f"{group.preset}:"):
        return f"preset {notes}"
    return f"preset {group.preset}" + (f" ({notes})" if notes else "")


def _changes(group: Group) -> str:
    config = group.config
    chosen = {**TRAINING[config.variant], **PRESETS.get(group.preset, {})}
    expected = RunConfig(
        case=config.case, variant=config.variant, data_sha256=config.data_sha256, **chosen
    )
    changed = [
        f"{name} {value}"
        for name, value in config.model_dump(exclude=_BOOKKEEPING).items()
        if value != getattr(expected, name)
    ]
    return f"changed: {', '.join(changed)}" if changed else ""


def describe_seeds(runs: Iterable[Run]) -> str:
    """``seed 0``, ``seeds 0, 1, 2``, or ``10 seeds`` where they are many."""
    seeds = sorted({run.config.seed for run in runs})
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    return f"seeds {', '.join(map(str, seeds))}" if len(seeds) <= 5 else f"{len(seeds)} seeds"


def describe_data(group: Group) -> str:
    """Which digits the runs trained on."""
    sources = sorted({run.record.data_source for run in group.runs})
    return ", ".join(DATA_WORDS.get(source, source) for source in sources)


def describe_end(run: Run) -> str:
    """How a run ended that did not reach its last iteration; nothing for one that did."""
    if run.record.outcome == "finished":
        return ""
    return f"not finite after {run.record.iterations_done} iterations"
