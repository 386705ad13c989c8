"""The verdict on a run, with its evidence and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Name = Literal[
    "healthy",
    "diverged",
    "saturated",
    "dead",
    "overpowering D",
    "total mode collapse",
    "mode collapse",
    "partial mode collapse",
    "quality failure",
]
NAMES: tuple[Name, ...] = get_args(Name)

REMEDIES: dict[Name, str] = {
    "healthy": "Nothing needs to change.",
    "diverged": "Lower the learning rates, compute losses in float32, or clip gradients.",
    "saturated": "Take the sigmoid off D's head, or let it learn more slowly.",
    "dead": "Give D a norm or larger initial weights, for no signal passes through it.",
    "overpowering D": "Weaken D by a gradient penalty, a lower learning rate or fewer steps.",
    "total mode collapse": "Let D see several samples at once (packing), or give it a live norm.",
    "mode collapse": "Let D see several samples at once (packing), or make it wider.",
    "partial mode collapse": "Train longer, or let D see several samples at once (packing).",
    "quality failure": "Train longer, or make G or D wider.",
}

CAUTION = "Judge samples over time: where they stop getting better, weaken D."
"""The remedy where nothing has failed, but D separates perfectly."""


@dataclass(frozen=True)
class Verdict:
    """What is wrong with a run, if anything.

    Args:
        name: One of `gaslayers.study.diagnosis.NAMES`.
        evidence: What it was read from, a sentence each.
        remedy: One sentence.
        since: The iteration from which on it held, where that is known.
        judged: What was there to judge: ``"signals"`` of training, ``"losses"`` alone,
            ``"samples"``. What was not judged may have failed all the same.
    """

    name: Name
    evidence: tuple[str, ...]
    remedy: str
    since: int | None
    judged: tuple[str, ...]

    def __str__(self) -> str:
        since = "" if self.since is None else f" since iteration {self.since}"
        judged = ", ".join(self.judged) or "nothing"
        return "\n".join([f"{self.name}{since} (judged: {judged})", *self.evidence, self.remedy])
