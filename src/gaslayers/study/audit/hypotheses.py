"""What runs are to show, as a file that is written before them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    model_validator,
)

from gaslayers.models import CASES
from gaslayers.study.diagnosis.verdict import Name
from gaslayers.study.metrics.scores import BETTER
from gaslayers.study.sweep.grid import name_folder
from gaslayers.study.toml_files import read_toml

Kind = Literal["equal", "worse", "fails", "fails_more", "smaller"]
When = Literal["as it ran", "today"]
PAIRED: tuple[Kind, ...] = ("equal", "worse", "fails_more", "smaller")
"""Kinds that compare two settings."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Place(_Strict):
    """A setting: runs that differ in their seed alone.

    Args:
        family: Of the grid.
        factors: Values of the family's factors, in the grid's order.
        case: One of `gaslayers.models.CASES`.
    """

    family: str
    case: str
    factors: dict[str, bool | int | float | str] = {}

    @model_validator(mode="after")
    def _known_case(self) -> Place:
        if self.case not in CASES:
            raise ValueError(f"case must be one of {', '.join(CASES)}, got {self.case!r}")
        return self

    @property
    def folder(self) -> str:
        """Where the grid puts its runs, below the folder of the sweep."""
        return name_folder(self.family, self.factors).as_posix()

    def __str__(self) -> str:
        factors = "".join(f", {name} {value}" for name, value in self.factors.items())
        return f"{self.case} ({self.family}{factors})"


class Test(_Strict):
    """One question with one answer.

    Args:
        kind: What is asked, as the file of the audit says.
        first: The setting that is asked about.
        second: What it is compared with, except of ``"fails"``.
        margin: In place of that of all.
        share: In place of that of all.
        ratio: Of ``"smaller"``.
        verdicts: Those that count as failed; None: all but healthy.
    """

    __test__ = False  # pytest would take it for one of its own

    kind: Kind
    first: Place
    second: Place | None = None
    margin: float | None = Field(default=None, gt=0, lt=1)
    share: float | None = Field(default=None, gt=0, lt=1)
    ratio: float | None = Field(default=None, gt=0)
    verdicts: tuple[Name, ...] | None = None

    @model_validator(mode="after")
    def _complete(self) -> Test:
        if (self.second is not None) != (self.kind in PAIRED):
            need = "a second setting" if self.kind in PAIRED else "no second setting"
            raise ValueError(f"a test of the kind {self.kind!r} has {need}")
        if (self.ratio is not None) != (self.kind == "smaller"):
            raise ValueError("a ratio goes with the kind 'smaller', and with no other")
        if self.verdicts is not None and self.kind not in ("fails", "fails_more"):
            raise ValueError("verdicts go with the kinds 'fails' and 'fails_more' alone")
        return self


class ClaimTest(Test):
    """A test of a claim.

    Args:
        setting: Of which of the claim's two verdicts it is a part.
    """

    setting: When


class Claim(_Strict):
    """A sentence of 2018 with the tests that it stands or falls by."""

    id: int
    statement: str
    tests: tuple[ClaimTest, ...] = Field(min_length=1)


class Question(Test):
    """A question beyond the claims, answered by one test."""

    id: str
    question: str


class Hypotheses(_Strict):
    """All that is asked, and how it is decided.

    Args:
        level: Of each one-sided test.
        confidence: Of intervals of shares.
        metric: The score that ``"equal"`` and ``"worse"`` compare, lower being better.
        margin: What counts as about equal.
        share: The share of failed runs from which on a setting fails.
        seeds: How many runs of a setting a decision takes.
        stopping: When the sweep ends.
        claims: Those of 2018.
        questions: Others.
    """

    level: float = Field(gt=0, lt=0.5)
    confidence: float = Field(gt=0, lt=1)
    metric: str
    margin: float = Field(gt=0, lt=1)
    share: float = Field(gt=0, lt=1)
    seeds: int = Field(ge=2)
    stopping: str
    claims: tuple[Claim, ...] = ()
    questions: tuple[Question, ...] = ()

    _sha256: str = PrivateAttr(default="")

    @model_validator(mode="after")
    def _lower_is_better(self) -> Hypotheses:
        known = [name for name, better in BETTER.items() if better == "lower"]
        if self.metric not in known:
            raise ValueError(f"metric must be one of {', '.join(known)}, got {self.metric!r}")
        return self

    @property
    def sha256(self) -> str:
        """Of the file, as records carry it."""
        return self._sha256


def read_hypotheses(path: Path) -> Hypotheses:
    """Read a file of hypotheses.

    Raises:
        FileNotFoundError: It is missing.
        ValueError: It does not fit, which the message says of what.
    """
    found = read_toml("read_hypotheses", path, Hypotheses)
    found._sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
