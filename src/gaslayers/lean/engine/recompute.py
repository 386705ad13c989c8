"""How much is computed again in the backward pass."""

from __future__ import annotations

from typing import Literal, TypeAlias

from gaslayers._checks import check_choice

Recompute: TypeAlias = Literal["cheap", "convolutions"]


def check_recompute(owner: str, recompute: object) -> None:
    """Raise unless it is one of the two."""
    check_choice(owner, "recompute", recompute, ("cheap", "convolutions"))
