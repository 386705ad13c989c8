"""Whether a tensor is kept whole, or made again from what is kept anyway."""

from __future__ import annotations

import math
from typing import NamedTuple

from gaslayers.lean.engine.form import Form
from gaslayers.lean.engine.provenance import Origin, Provenance
from gaslayers.lean.engine.whole import Hooks

MOST_MAPS_MOVED = 32
"""A tensor is made again by reading and writing at most so many times its own bytes."""

MOST_STEPS = 50
"""A tensor is made again by a row of at most so many operators, views included."""

MOST_DEAR = 1
"""A tensor is made again by at most so many convolutions, each of which runs again for it."""


class _Cost(NamedTuple):
    """What it takes to make a tensor again.

    Args:
        kept: Bytes to be kept for it beyond those that are.
        moved: Bytes that operators read and write.
        dear: Convolutions that run again, one behind the other.
    """

    kept: float = 0.0
    moved: int = 0
    dear: int = 0


_NOTHING = _Cost()


def form_again(
    book: Provenance, outer: Hooks | None, origin: Origin, most_bytes: float = math.inf
) -> Form | None:
    """The form that makes a tensor again; None: it is to be kept whole.

    A tensor is made again where what has to be kept for it, beyond what is kept already, is less
    than its own bytes, and where it is near.

    Args:
        book: The origins of the tensors that live.
        outer: Hooks around the engine.
        origin: Its own.
        most_bytes: What may be kept for it beyond what is.
    """
    if origin.operator is None or origin.kept is not None:
        return None
    view = book.view_of_kept(origin)
    if view is not None:
        return view
    if origin.is_made_again:
        return origin.again(list)  # whoever did so first has decided, and kept what it takes
    return _Choice(book, outer).form(origin, most_bytes)


class _Choice:
    """The choice for one tensor: decided for it and all tensors on the way to it."""

    def __init__(self, book: Provenance, outer: Hooks | None) -> None:
        self._book, self._outer = book, outer
        self._whole: set[Origin] = set()
        self._seen: set[Origin] = set()

    def form(self, origin: Origin, most_bytes: float) -> Form | None:
        cost = self._cost(origin, is_last=True)
        limit = origin.held_bytes
        too_much = cost.kept > limit if origin.prefers_inputs else cost.kept >= limit
        too_far = cost.moved > MOST_MAPS_MOVED * origin.byte_count or cost.dear > MOST_DEAR
        if too_much or too_far or cost.kept > most_bytes:
            return None
        return self._build(origin)

    def _cost(self, origin: Origin, *, is_last: bool = False, steps: int = 0) -> _Cost:
        if origin in self._seen or origin.kept is not None:
            return _NOTHING
        self._seen.add(origin)
        if origin.is_made_again:
            return origin.remaking
        if origin.is_parameter:
            return _NOTHING if origin.tensor is not None else _Cost(kept=math.inf)
        if self._book.view_of_kept(origin) is not None:
            self._whole.add(origin)
            return _NOTHING
        is_there = origin.tensor is not None
        if origin.operator is None or steps == MOST_STEPS:
            self._whole.add(origin)
            return _Cost(kept=origin.held_bytes if is_there else math.inf)
        kept, moved, dear = 0.0, origin.moved_bytes, 0
        for read in origin.inputs:
            each = self._cost(read, steps=steps + 1)
            kept, moved, dear = kept + each.kept, moved + each.moved, max(dear, each.dear)
        dear += origin.is_dear
        if not is_last and is_there and (origin.held_bytes < kept or dear > MOST_DEAR):
            self._whole.add(origin)
            return _Cost(kept=origin.held_bytes)
        origin.remaking = _Cost(0.0, moved, dear)
        return _Cost(kept, moved, dear)

    def _build(self, origin: Origin) -> Form:
        kept = origin.kept
        if kept is not None:
            return kept
        if origin.is_parameter or origin.operator is None or origin in self._whole:
            return self._book.keep(origin, self._outer)
        return origin.again(lambda: [self._build(read) for read in origin.inputs])
