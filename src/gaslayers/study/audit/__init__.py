"""The claims of a study, judged: hypotheses written before the runs, and verdicts read off them."""

from gaslayers.study.audit.claims import Audit, ClaimVerdict, audit
from gaslayers.study.audit.decisions import Decision
from gaslayers.study.audit.hypotheses import (
    Claim,
    ClaimTest,
    Hypotheses,
    Place,
    Question,
    Test,
    read_hypotheses,
)
from gaslayers.study.audit.settings import JudgedRun, Setting, read_settings

__all__ = [
    "Audit",
    "Claim",
    "ClaimTest",
    "ClaimVerdict",
    "Decision",
    "Hypotheses",
    "JudgedRun",
    "Place",
    "Question",
    "Setting",
    "Test",
    "audit",
    "read_hypotheses",
    "read_settings",
]
