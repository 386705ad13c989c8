"""What `explain_penalty` finds."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmoothOperator:
    """An operator without a linear twin.

    Args:
        module: The module in which it runs; "" is the root.
        operator: Its name.
        reason: Why it has none.
    """

    module: str
    operator: str
    reason: str

    def __str__(self) -> str:
        return f"{self.operator} in {self.module or '(root)'} {self.reason}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PenaltyReport:
    """What `explain_penalty` found.

    Args:
        method: ``"linearised"`` or ``"double backward"``.
        operators: How many operators stand between the input and the scores, and have a twin.
        smooth: Those that have none, in the order in which they run.
        reason: Why it is this method, in a sentence.
    """

    method: str
    operators: int
    smooth: tuple[SmoothOperator, ...]
    reason: str

    def __str__(self) -> str:
        return "\n".join([f"{self.method}: {self.reason}", *(f"- {part}" for part in self.smooth)])
