"""From hypotheses and runs to a verdict on each claim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gaslayers.study.audit.decisions import Decision, Word, decide_all
from gaslayers.study.audit.hypotheses import (
    Claim,
    Hypotheses,
    Question,
    Test,
    When,
    read_hypotheses,
)
from gaslayers.study.audit.settings import Setting, read_settings
from gaslayers.study.sweep.grid import HYPOTHESES_FILE

WHENS: tuple[When, ...] = ("as it ran", "today")


@dataclass(frozen=True)
class ClaimVerdict:
    """A claim and what its tests came to, in either setting.

    Args:
        claim: The claim.
        words: The verdict by setting, where it has tests in it.
        decisions: The tests by setting.
    """

    claim: Claim
    words: dict[When, Word]
    decisions: dict[When, tuple[Decision, ...]]


@dataclass(frozen=True)
class Audit:
    """All that a sweep shows.

    Args:
        hypotheses: What was asked.
        settings: What was run.
        claims: The verdicts on the claims.
        questions: The answers to the questions beyond.
    """

    hypotheses: Hypotheses
    settings: tuple[Setting, ...]
    claims: tuple[ClaimVerdict, ...]
    questions: tuple[tuple[Question, Decision], ...]

    def about(self, case: str) -> str:
        """What was found about one case: how its runs ended, and the tests that ask about it."""
        lines = [str(setting) for setting in self.settings if setting.case == case]
        for verdict in self.claims:
            for when, decisions in verdict.decisions.items():
                lines += [
                    f"claim {verdict.claim.id}, {when}: {decision.word}. {decision.evidence}"
                    for decision in decisions
                    if decision.test.first.case == case
                ]
        return "\n".join(lines) or f"No run of {case} is finished."


def audit(sweep: Path) -> Audit:
    """Judge the hypotheses of a sweep by its finished runs.

    Args:
        sweep: A folder that ``gaslayers sweep`` wrote; it holds ``hypotheses.toml``.

    Raises:
        FileNotFoundError: There are no hypotheses, or no finished run.
        ValueError: A file does not fit, or a record is of other hypotheses.
    """
    hypotheses = read_hypotheses(sweep / HYPOTHESES_FILE)
    settings = read_settings(sweep, hypotheses_sha256=hypotheses.sha256)
    asked: list[Test] = [test for claim in hypotheses.claims for test in claim.tests]
    decisions = iter(decide_all([*asked, *hypotheses.questions], settings, hypotheses))
    claims = []
    for claim in hypotheses.claims:
        found = [(test.setting, next(decisions)) for test in claim.tests]
        by_setting = {
            when: tuple(decision for setting, decision in found if setting == when)
            for when in WHENS
        }
        by_setting = {when: some for when, some in by_setting.items() if some}
        words = {when: combine(some) for when, some in by_setting.items()}
        claims.append(ClaimVerdict(claim, words, by_setting))
    questions = tuple(zip(hypotheses.questions, decisions, strict=True))
    return Audit(hypotheses, tuple(settings), tuple(claims), questions)


def combine(decisions: Sequence[Decision]) -> Word:
    """Supported where all are, refuted where one is, else undecided."""
    words = {decision.word for decision in decisions}
    if "refuted" in words:
        return "refuted"
    return "supported" if words == {"supported"} else "undecided"
