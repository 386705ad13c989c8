"""Absolute values, and the losses made of them: two bits per element are kept."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gaslayers.lean.engine.bits import Bits
from gaslayers.lean.engine.form import Form
from gaslayers.lean.engine.operation import Operation, is_small
from gaslayers.lean.engine.table import rule
from gaslayers.lean.engine.whole import Hooks
from gaslayers.lean.native.bits import NOT_AT_LEAST_ZERO, NOT_AT_MOST_ZERO
from gaslayers.lean.rules.pure import run_pure


class Sides(Form):
    """Whether each element is above zero, below it, zero, or no number.

    Args:
        tensor: Floating-point.
        outer: Hooks around the engine, which take the bits.
    """

    __slots__ = ("_above", "_below")

    reason = "on which side of zero it is decides"

    def __init__(self, tensor: Tensor, outer: Hooks | None = None) -> None:
        # No number is on either side, and infinity less infinity is no number.
        dtype = tensor.dtype
        self._above = Bits(tensor, NOT_AT_MOST_ZERO, dtype, high=math.inf, outer=outer)
        self._below = Bits(tensor, NOT_AT_LEAST_ZERO, dtype, high=-math.inf, outer=outer)

    @property
    def parts(self) -> Sequence[Form]:
        """The bits."""
        return (self._above, self._below)

    def restore(self) -> Tensor:
        """Infinity with the element's sign, zero, or NaN."""
        return self._above.restore().add_(self._below.restore())


@rule(torch.abs, Tensor.abs, torch.absolute, Tensor.absolute, Tensor.__abs__)
def _absolute(op: Operation) -> Any:
    return run_pure(op, functools.partial(_keep_sides, op))


@rule(F.l1_loss)
def _mean_distance(op: Operation) -> Any:
    if op.argument(5, "weight") is not None:
        return op.run()
    # What it saves is the difference, which nobody else has seen.
    return op.run(functools.partial(_keep_sides, op))


def _keep_sides(op: Operation, saved: Tensor) -> Form | None:
    if is_small(saved) or not saved.is_floating_point():
        return None
    known = op.pass_.book.find(saved)
    if known is not None and known.kept is not None:
        return known.kept
    return Sides(saved, op.pass_.outer)
