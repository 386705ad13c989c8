"""The form of a tensor of two values: one bit per element."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gaslayers.lean.engine.form import Form
from gaslayers.lean.engine.whole import Hooks, Whole
from gaslayers.lean.native.bits import NOT_ZERO, Test, fills_its_memory, pack, unpack


class Bits(Form):
    """For which elements a test holds, in the order of memory.

    Args:
        tensor: Floating-point, or a mask of bools.
        test: What is asked of each element.
        dtype: Of what comes back.
        low: What comes back where the test does not hold.
        high: What comes back where it does.
        outer: Hooks around the engine, which take the bits.
    """

    __slots__ = ("_dtype", "_high", "_low", "_packed", "_shape", "stride")

    reason = "it has two values, or on which side of a bound it is decides"

    def __init__(
        self,
        tensor: Tensor,
        test: Test,
        dtype: torch.dtype,
        *,
        low: float = 0.0,
        high: float = 1.0,
        outer: Hooks | None = None,
    ) -> None:
        if not fills_its_memory(tensor):
            tensor, test = test.holds(tensor), NOT_ZERO
        self._shape, self.stride = tensor.shape, tensor.stride()
        self._dtype, self._low, self._high = dtype, low, high
        line = tensor.detach().as_strided((tensor.numel(),), (1,))
        self._packed = Whole(pack(line, test), outer)

    @property
    def parts(self) -> Sequence[Form]:
        """The bits."""
        return (self._packed,)

    def packed(self) -> Tensor:
        """The bits, eight to a byte."""
        return self._packed.restore()

    def restore(self) -> Tensor:
        """One of the two values per element."""
        packed = self.packed()
        made = torch.empty_strided(
            self._shape, self.stride, dtype=self._dtype, device=packed.device
        )
        line = made.as_strided((made.numel(),), (1,))
        unpack(packed, line, self._low, self._high)
        return made
