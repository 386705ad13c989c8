"""The highest point of a record of live bytes, and what was alive there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from gaslayers.accounting._live_bytes import FOREACH, KINDS, OPTIMIZER, Change, Storage
from gaslayers.accounting.peak_report import Moment, StepPeak

BLOCK = 512
"""Bytes that CUDA's caching allocator rounds every request up to a multiple of."""


def sweep_step(before: Iterable[tuple[Storage, int]], changes: Sequence[Change]) -> StepPeak:
    """Go through one step and keep its peak and its course.

    Args:
        before: What was alive when it began, with sizes.
        changes: What was born and died in it.
    """
    live: Counter[str] = Counter()
    for storage, size in before:
        live[storage.kind] += size
    start = total = peak = live.total()
    at, breakdown = ("forward", "", "start"), live.copy()
    timeline = [Moment("start", "", "forward", total)]
    for change in changes:
        if change.phase == FOREACH:
            continue  # all of it dies with its phase
        live[change.storage.kind] += change.size
        total += change.size
        moment = Moment(change.operator, change.module, change.phase, total)
        if change.size < 0 or moment[:-1] != timeline[-1][:-1]:
            timeline.append(moment)
        else:
            timeline[-1] = moment
        if total > peak:
            peak, breakdown = total, live.copy()
            at = (change.phase, change.module, change.operator)
    return StepPeak(
        peak=peak,
        start=start,
        phase=at[0],
        at_module=at[1],
        at_operator=at[2],
        breakdown={kind: breakdown[kind] for kind in KINDS},
        timeline=tuple(timeline),
    )


def sweep_allocator(
    before: Iterable[tuple[Storage, int]],
    changes: Sequence[Change],
    is_on_host: Callable[[Storage], bool],
) -> tuple[int, int]:
    """The peak of the same step in the caching allocator's blocks, and where it started."""
    sizes: Counter[Storage] = Counter()
    for storage, size in before:
        if not is_on_host(storage):
            sizes[storage] += size
    start = total = peak = sum(map(_round_up, sizes.values()))
    has_foreach = any(change.phase == FOREACH for change in changes)
    for change in changes:
        if is_on_host(change.storage):
            continue
        size = sizes[change.storage]
        total += _round_up(size + change.size) - _round_up(size)
        sizes[change.storage] += change.size
        if change.phase != OPTIMIZER or not has_foreach:
            peak = max(peak, total)
    return peak, start


def _round_up(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
