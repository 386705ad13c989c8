"""How much is computed again in the backward pass, and which convolutions run again."""

from __future__ import annotations

import dataclasses
from typing import Literal, TypeAlias

from gaslayers._checks import check_choice
from gaslayers.lean.engine.provenance import Origin

Recompute: TypeAlias = Literal["cheap", "convolutions"]


def check_recompute(owner: str, recompute: object) -> None:
    """Raise unless it is one of the two."""
    check_choice(owner, "recompute", recompute, ("cheap", "convolutions"))


class Selection:
    """Which convolutions of one forward pass may run again.

    Args:
        dropped: Those that may, by their numbers in the pass; None: all of them.
    """

    def __init__(self, dropped: frozenset[int] | None) -> None:
        self._dropped = dropped
        self._count = 0
        self.dear: list[Dear] = []

    def next_may_run_again(self) -> bool:
        """Whether the next one may."""
        number, self._count = self._count, self._count + 1
        return self._dropped is None or number in self._dropped

    def note(self, made: Origin, work: int) -> None:
        """Note the one that was asked for last."""
        self.dear.append(Dear(self._count - 1, work, made))


@dataclasses.dataclass(frozen=True)
class Dear:
    """A convolution, or another operator that takes long.

    Args:
        number: Its number in the pass.
        work: What it takes to run again, in multiply-adds.
        made: What it made.
    """

    number: int
    work: int
    made: Origin

    @property
    def byte_count(self) -> int:
        """Of what it made."""
        return self.made.held_bytes

    @property
    def runs_again(self) -> bool:
        """Whether what it made was dropped, and something needs it."""
        return self.made.kept is None and self.made.is_made_again

    def sources(self) -> list[Origin]:
        """What the convolutions before it made, of which its input is made by cheap operators."""
        found, rest, seen = [], list(self.made.inputs), set()
        while rest:
            origin = rest.pop()
            if origin in seen:
                continue
            seen.add(origin)
            if origin.is_dear:
                found.append(origin)
            else:
                rest += origin.inputs
        return found


def selection_of(recompute: Recompute) -> Selection:
    """All of them, or none."""
    return Selection(None if recompute == "convolutions" else frozenset())
