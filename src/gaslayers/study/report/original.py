"""The loss curves of the 2018 study, as its two plots show them."""

from __future__ import annotations

import csv
import functools
from pathlib import Path
from typing import Literal, NamedTuple

Loss = Literal["generator", "discriminator"]

PATH = Path(__file__).with_name("seed_curves.csv")
BATCH_SIZE = 32
"""The original's losses are sums over a batch of this size."""

NOTE = "2018 original: one run, every 200 iterations, read off its plots to ±0.1"


class OriginalCurve(NamedTuple):
    """One curve of the original."""

    iterations: list[int]
    losses: list[float]

    def until(self, iteration: int) -> OriginalCurve:
        """The readings up to an iteration."""
        count = sum(there <= iteration for there in self.iterations)
        return OriginalCurve(self.iterations[:count], self.losses[:count])


@functools.cache
def read_original_curves(loss: Loss) -> dict[str, OriginalCurve]:
    """The original's curves of one loss, by case.

    Example:
        >>> read_original_curves("generator")["inception_32"].losses[-1]
        15.8
    """
    _, *lines = PATH.read_text(encoding="utf-8").splitlines()  # the first says where they are from
    (_, _, *iterations), *rows = csv.reader(lines)
    return {
        case: OriginalCurve(list(map(int, iterations)), list(map(float, losses)))
        for kind, case, *losses in rows
        if kind == loss
    }
