"""Tangents times numbers that are kept in few bits: signs, and what dropout drew."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from gaslayers.lean.engine.bits import Bits
from gaslayers.lean.engine.form import Form
from gaslayers.lean.native.bits import rectify_backward, unpack
from gaslayers.lean.native.door import Misfit


class Numbers(Protocol):
    """Numbers that tangents are multiplied by."""

    def times(self, tangent: Tensor) -> Tensor:
        """The product, as a new tensor."""


class Slopes:
    """One where a bit is set, a slope elsewhere.

    Args:
        bits: The bits.
        slope: The slope.
        shape: Of the tangents.
    """

    __slots__ = ("_bits", "_shape", "_slope")

    def __init__(self, bits: Bits, slope: float, shape: torch.Size) -> None:
        self._bits, self._slope, self._shape = bits, slope, shape

    def times(self, tangent: Tensor) -> Tensor:
        """By a kernel where there is one."""
        packed = self._bits.packed()
        if tangent.stride() == self._bits.stride:
            try:
                return rectify_backward(tangent, packed, self._slope)
            except Misfit:
                pass
        factors = torch.empty_strided(
            self._shape, self._bits.stride, dtype=tangent.dtype, device=tangent.device
        )
        unpack(packed, factors.as_strided((factors.numel(),), (1,)), self._slope, 1.0)
        if self._slope == 0.0:  # what is no number times zero is no number
            return tangent.where(factors != 0, 0.0)
        return tangent * factors


class Noise:
    """What dropout drew: numbers, or a mask.

    Args:
        form: In which it is kept.
        factor: What goes with a mask.
    """

    __slots__ = ("_factor", "_form")

    def __init__(self, form: Form, factor: float) -> None:
        self._form, self._factor = form, factor

    def times(self, tangent: Tensor) -> Tensor:
        """By the tensor, which is there for so long alone."""
        drawn = self._form.restore()
        made = tangent * drawn
        return made.mul_(self._factor) if drawn.dtype == torch.bool else made


class _Times(torch.autograd.Function):
    """A linear function that is its own adjoint, and so its own derivative of any order."""

    @staticmethod
    def forward(ctx: Any, tangent: Tensor, numbers: Numbers) -> Tensor:
        ctx.numbers = numbers
        return numbers.times(tangent)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return times(grad, ctx.numbers), None


def times(tangent: Tensor, numbers: Numbers) -> Tensor:
    """The product; the numbers alone are kept for its gradient."""
    made: Tensor = _Times.apply(tangent, numbers)
    return made
