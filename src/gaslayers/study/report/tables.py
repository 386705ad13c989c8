"""The summary's table, a row a run, and the block that says where its numbers come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gaslayers.study.records import CurvePoint, MemoryPrediction, MemoryReading
from gaslayers.study.report.captions import describe_data
from gaslayers.study.report.runs import Group, Run

ABSENT = "-"
HASH_CHARACTERS = 12


@dataclass(frozen=True)
class Column:
    """One column: its heading, and what a run's cell says."""

    heading: str
    cell: Callable[[Run], str]


@dataclass(frozen=True)
class Table:
    """Headings, and a row of as many cells for each run."""

    headings: list[str]
    rows: list[list[str]]


def _last(cell: Callable[[CurvePoint], str]) -> Callable[[Run], str]:
    return lambda run: cell(run.curves[-1]) if run.curves else ABSENT


def _memory(cell: Callable[[MemoryReading], int | None]) -> Callable[[Run], str]:
    def show(run: Run) -> str:
        size = None if run.record.memory is None else cell(run.record.memory)
        return ABSENT if size is None else f"{size / 2**20:.1f} MiB"

    return show


def _outcome(run: Run) -> str:
    outcome, message = run.record.outcome, run.record.message
    return f"{outcome.replace('_', ' ')}: {message}" if message else outcome.replace("_", " ")


_IDENTITY = [
    Column("case", lambda run: run.config.case),
    Column("seed", lambda run: str(run.config.seed)),
]

_OUTCOME = [
    Column("outcome", _outcome),
    Column("iterations", lambda run: str(run.record.iterations_done)),
    Column("final L_D", _last(lambda point: f"{point.discriminator_loss:.4g}")),
    Column("final L_G", _last(lambda point: f"{point.generator_loss:.4g}")),
    Column(
        "logits on real, mean ± std",
        _last(lambda point: f"{point.real_logit_mean:.3g} ± {point.real_logit_std:.3g}"),
    ),
    Column(
        "logits on fake, mean ± std",
        _last(lambda point: f"{point.fake_logit_mean:.3g} ± {point.fake_logit_std:.3g}"),
    ),
]

_MEMORY = [
    Column("D step: peak allocated", _memory(lambda memory: memory.peak_allocated)),
    Column("D step: peak reserved", _memory(lambda memory: memory.peak_reserved)),
    Column("D step: process memory", _memory(lambda memory: memory.process)),
]


def _predicted(cell: Callable[[MemoryPrediction], int]) -> Callable[[Run], str]:
    def show(run: Run) -> str:
        found = run.record.memory_predicted
        return ABSENT if found is None else f"{cell(found) / 2**20:.2f} MiB"

    return show


# Each pair of numbers is of the same D step: as it runs, and with the lean paths off.
_PREDICTED = [
    Column("D step: kept", _predicted(lambda found: found.saved_bytes)),
    Column("D step: kept, plain", _predicted(lambda found: found.saved_bytes_plain)),
    Column("D step: tensor peak", _predicted(lambda found: found.tensor_peak)),
    Column("D step: tensor peak, plain", _predicted(lambda found: found.tensor_peak_plain)),
]

_HASHES = [
    Column("run", lambda run: run.name),
    Column("config hash", lambda run: run.record.config_hash[:HASH_CHARACTERS]),
    Column("code hash", lambda run: run.record.code_hash[:HASH_CHARACTERS]),
]


def _tabulate(columns: list[Column], runs: Iterable[Run]) -> Table:
    return Table(
        [column.heading for column in columns],
        [[column.cell(run) for column in columns] for run in runs],
    )


def outcome_of(group: Group) -> Table:
    """How each run ended."""
    return _tabulate([*_IDENTITY, *_OUTCOME], group.runs)


def cost_of(group: Group) -> Table:
    """What each run's discriminator costs, and what the run took.

    With memory where any run read it, which CUDA's do: three different quantities, so each keeps
    its own name.
    """
    batch = group.config.batch_size
    columns = [
        *_IDENTITY,
        Column("D parameters", lambda run: f"{run.record.discriminator_parameters:,}"),
        Column(
            f"D forward FLOPs, batch {batch}",
            lambda run: f"{run.record.discriminator_forward_flops / 1e9:.3f} G",
        ),
        Column("seconds on the clock", lambda run: f"{run.record.seconds:.1f}"),
        Column("processor seconds", lambda run: f"{run.record.processor_seconds:.1f}"),
        Column(
            "iterations per processor second",
            lambda run: f"{run.record.iterations_per_processor_second:.3g}",
        ),
    ]
    if any(run.record.memory_predicted for run in group.runs):
        columns += _PREDICTED
    if any(run.record.memory for run in group.runs):
        columns += _MEMORY
    return _tabulate(columns, group.runs)


def hashes_of(group: Group) -> Table:
    """The beginnings of the hashes of each run's configuration and code."""
    return _tabulate(_HASHES, group.runs)


def provenance_of(group: Group) -> dict[str, str]:
    """Data, versions and machine of a group's runs; where runs differ, all are named."""

    def distinct(read: Callable[[Run], object]) -> str:
        return ", ".join(dict.fromkeys(str(read(run)) for run in group.runs))

    return {
        "data": describe_data(group),
        "data, SHA-256": group.config.data_sha256,
        "gaslayers": distinct(lambda run: run.record.machine.gaslayers),
        "PyTorch": distinct(lambda run: run.record.machine.torch),
        "Python": distinct(lambda run: run.record.machine.python),
        "platform": distinct(lambda run: run.record.machine.platform),
        "device": distinct(lambda run: run.record.machine.device),
        "processor": distinct(lambda run: run.record.machine.processor),
        "threads": distinct(lambda run: run.record.machine.threads),
        "FLOPs": distinct(lambda run: run.record.flops_convention),
    }


def settings_of(group: Group) -> dict[str, str]:
    """Every choice of training that the group's runs share."""
    shared = group.config.model_dump(exclude={"case", "seed", "data_sha256"})
    return {name: str(value) for name, value in shared.items()}
