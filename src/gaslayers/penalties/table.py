"""The linear twins: for each operator that has one, the rule that makes it.

A rule is given a `Call`, runs it, and gives its `Twin`. It gives None where the operator is not
linear in what depends on the penalised input, not even piece by piece.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from gaslayers.penalties.call import Call, Twin

TwinRule: TypeAlias = Callable[[Call], Twin | None]

TWINS: dict[Callable[..., Any], TwinRule] = {}

_Rule = TypeVar("_Rule", bound=TwinRule)


def twin_of(*functions: Callable[..., Any]) -> Callable[[_Rule], _Rule]:
    """Let a rule take these functions, as `torch.overrides` names them."""

    def register(made: _Rule) -> _Rule:
        for function in functions:
            TWINS[function] = made
        return made

    return register
