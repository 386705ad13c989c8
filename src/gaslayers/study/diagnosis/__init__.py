"""Verdicts on GAN runs: what is wrong, by what evidence, and what to do."""

from gaslayers.study.diagnosis.diagnose import diagnose
from gaslayers.study.diagnosis.readings import (
    Levels,
    Reading,
    readings_of_curves,
    readings_of_losses,
)
from gaslayers.study.diagnosis.thresholds import Thresholds
from gaslayers.study.diagnosis.verdict import NAMES, Verdict

__all__ = [
    "NAMES",
    "Levels",
    "Reading",
    "Thresholds",
    "Verdict",
    "diagnose",
    "readings_of_curves",
    "readings_of_losses",
]
