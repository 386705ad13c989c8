"""The entries of a tape, and how a tangent is sent through them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from gaslayers.lean.rerun import Precision
from gaslayers.penalties.call import Twin

INPUT = 0
"""The number of the penalised input."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """An operator of the forward pass.

    Args:
        twin: What it does to tangents.
        writes: The numbers of its results.
        forms: Their shapes and dtypes, which are those of the tangents.
        shifts: What it adds that has a graph of its own: a bias, say.
        precision: The autocast that it ran under; None: none.
    """

    twin: Twin
    writes: tuple[int, ...]
    forms: tuple[tuple[torch.Size, torch.dtype] | None, ...]
    shifts: tuple[Tensor, ...]
    precision: Precision | None


def push(entries: list[Entry], outputs: Sequence[int], tangent: Tensor) -> Iterator[Tensor]:
    """Send a tangent through the tape; the entries are used up.

    Args:
        entries: Those of a closed tape.
        outputs: The numbers of what is differentiated.
        tangent: That of the input.

    Yields:
        The tangents of the outputs.
    """
    last = {number: place for place, entry in enumerate(entries) for number in entry.twin.reads}
    last |= dict.fromkeys(outputs, len(entries))
    tangents = {INPUT: tangent}
    del tangent
    entries.reverse()
    for place in range(len(entries)):
        entry = entries.pop()
        reads = [tangents[number] for number in entry.twin.reads]
        for number in entry.twin.reads:
            if last[number] == place:
                tangents.pop(number, None)
        made = _run(entry, reads)
        parts = zip(entry.writes, made, strict=True)
        tangents |= {number: part for number, part in parts if number in last}
        del reads, made, parts
    for number in outputs:
        yield tangents[number]


def _run(entry: Entry, reads: list[Tensor]) -> Sequence[Tensor]:
    precision = entry.precision
    if precision is None and torch._C._is_any_autocast_enabled():
        precision = Precision(reads[0].device.type, None)
    if precision is None:
        made = entry.twin.run(*reads)
    else:
        with precision.restored():
            made = entry.twin.run(*reads)
    parts = [made] if isinstance(made, Tensor) else made
    return [_formed(part, form) for part, form in zip(parts, entry.forms, strict=True)]


def _formed(tangent: Tensor, form: tuple[torch.Size, torch.dtype] | None) -> Tensor:
    """A tangent in the dtype of its result; a rule that gets its shape wrong is at fault."""
    if form is None:
        return tangent
    shape, dtype = form
    if tangent.shape != shape:
        raise AssertionError(
            f"Tape: a tangent of shape {tuple(tangent.shape)} for a result of {tuple(shape)}"
        )
    return tangent.to(dtype)
