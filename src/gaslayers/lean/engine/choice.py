"""Whether a tensor is kept whole, or made again from what is kept anyway."""

from __future__ import annotations

import dataclasses
import math

from gaslayers.lean.engine.form import Form
from gaslayers.lean.engine.provenance import Origin, Provenance
from gaslayers.lean.engine.whole import Hooks

MOST_MAPS_MOVED = 32
"""A tensor is made again by reading and writing at most so many times its own bytes."""

MOST_STEPS = 50
"""A tensor is made again by a row of at most so many operators, views included."""

MOST_DEAR = 1
"""A tensor is made again by at most so many convolutions, each of which runs again for it."""


@dataclasses.dataclass(frozen=True)
class _Cost:
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


class Choice:
    """The choice for one tensor: decided for it and all tensors on the way to it.

    A tensor is made again where what has to be kept for it, beyond what is kept already, is less
    than its own bytes, and where it is near.
    """

    def __init__(self, book: Provenance, outer: Hooks | None) -> None:
        self._book, self._outer = book, outer
        self._whole: set[Origin] = set()
        self._seen: set[Origin] = set()

    def form(self, origin: Origin) -> Form | None:
        """The form that makes it again; None: it is to be kept whole."""
        if origin.operator is None or origin.kept is not None:
            return None
        view = self._book.view_of_kept(origin)
        if view is not None:
            return view
        cost = self._cost(origin, is_last=True)
        limit = origin.held_bytes
        too_much = cost.kept > limit if origin.prefers_inputs else cost.kept >= limit
        too_far = cost.moved > MOST_MAPS_MOVED * origin.byte_count or cost.dear > MOST_DEAR
        if too_much or too_far:
            return None
        return self._build(origin)

    def _cost(self, origin: Origin, *, is_last: bool = False, steps: int = 0) -> _Cost:
        if origin in self._seen:
            return _NOTHING
        self._seen.add(origin)
        if origin.kept is not None:
            return _NOTHING
        if origin.is_parameter:
            return _NOTHING if origin.tensor is not None else _Cost(kept=math.inf)
        if self._book.view_of_kept(origin) is not None:
            self._whole.add(origin)
            return _NOTHING
        is_there = origin.tensor is not None
        if origin.operator is None or steps == MOST_STEPS:
            self._whole.add(origin)
            return _Cost(kept=origin.held_bytes if is_there else math.inf)
        costs = [self._cost(read, steps=steps + 1) for read in origin.inputs]
        cost = _Cost(
            kept=sum(each.kept for each in costs),
            moved=origin.moved_bytes + sum(each.moved for each in costs),
            dear=origin.is_dear + max((each.dear for each in costs), default=0),
        )
        is_worse = origin.held_bytes < cost.kept or cost.dear > MOST_DEAR
        if not is_last and is_there and is_worse:
            self._whole.add(origin)
            return _Cost(kept=origin.held_bytes)
        return cost

    def _build(self, origin: Origin) -> Form:
        if origin.is_parameter or origin.operator is None or origin.kept is not None:
            return self._book.keep(origin, self._outer)
        if origin in self._whole:
            return self._book.keep(origin, self._outer)
        return origin.again([self._build(read) for read in origin.inputs])
