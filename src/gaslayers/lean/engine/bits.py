"""The form of a tensor of two values: a bit an element."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from gaslayers.lean.engine.form import Form
from gaslayers.lean.engine.whole import Hooks, Whole

_GATHER = 0x0102040810204080  # moves the lowest bits of eight bytes into the highest byte
_SHIFT = 56


def _fills_its_memory(tensor: Tensor) -> bool:
    """Whether its elements lie side by side in some order, so that they can be read as a line."""
    reach = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    return reach + 1 == tensor.numel()


class Bits(Form):
    """Where a mask is true, in the order of memory.

    Args:
        mask: Of bools; its memory is written over.
        dtype: Of what comes back.
        low: What comes back where the mask is false.
        high: What comes back where it is true.
        outer: Hooks around the engine, which take the bits.
    """

    __slots__ = ("_dtype", "_high", "_low", "_packed", "_shape", "_stride")

    reason = "it has two values, or on which side of a bound it is decides"

    def __init__(
        self,
        mask: Tensor,
        dtype: torch.dtype,
        *,
        low: float = 0.0,
        high: float = 1.0,
        outer: Hooks | None = None,
    ) -> None:
        if not _fills_its_memory(mask):
            mask = mask.contiguous()
        self._shape, self._stride = mask.shape, mask.stride()
        self._dtype, self._low, self._high = dtype, low, high
        line = mask.as_strided((mask.numel(),), (1,)).view(torch.uint8)
        missing = -line.numel() % 8
        if missing:
            line = F.pad(line, (0, missing))
        words = line.view(torch.int64).mul_(_GATHER).bitwise_right_shift_(_SHIFT)
        self._packed = Whole(words.to(torch.uint8), outer)

    @property
    def parts(self) -> Sequence[Form]:
        """The bits."""
        return (self._packed,)

    def restore(self) -> Tensor:
        """One of the two values an element."""
        packed = self._packed.restore()
        # One that is fake is not for later.
        eights = _eights if type(packed) is Tensor else _eights.__wrapped__
        values = eights(self._dtype, packed.device, self._low, self._high)
        line = F.embedding(packed.to(torch.int32), values)
        return line.view(-1).as_strided(self._shape, self._stride)


@functools.lru_cache(maxsize=64)
def _eights(dtype: torch.dtype, device: torch.device, low: float, high: float) -> Tensor:
    """The eight values that each byte stands for: (256, 8)."""
    places = torch.arange(8, device=device)
    bits = torch.arange(256, device=device)[:, None].bitwise_right_shift(places).bitwise_and(1) != 0
    if dtype == torch.bool:
        return bits
    # One after the other, since a number times infinity may be none.
    return torch.full((256, 8), low, dtype=dtype, device=device).masked_fill_(bits, high)
