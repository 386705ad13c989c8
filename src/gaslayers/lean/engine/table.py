"""The rules: for each operator that has one, what runs in its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from gaslayers.lean.engine.operation import Operation

Rule: TypeAlias = Callable[[Operation], Any]

RULES: dict[Callable[..., Any], Rule] = {}

_Rule = TypeVar("_Rule", bound=Rule)


def rule(*functions: Callable[..., Any]) -> Callable[[_Rule], _Rule]:
    """Let a rule take these functions, as `torch.overrides` names them."""

    def register(made: _Rule) -> _Rule:
        for function in functions:
            RULES[function] = made
        return made

    return register
