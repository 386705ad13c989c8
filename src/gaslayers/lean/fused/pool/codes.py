"""Which value of a pooling window was the largest, and whether it was positive, in a byte.

PyTorch's max pooling keeps the place of that value within its plane, in 8 bytes.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from gaslayers.lean.fused.pool.packing import pack_bits, unpack_bits

_SIGN_BIT = 128


@dataclasses.dataclass(frozen=True, slots=True)
class _Windows:
    """Windows that do not overlap.

    Args:
        width: Width of what is pooled.
        kernel_size: Height and width of a window, and from one window to the next.
        signed: Whether signs are kept, too.
    """

    width: int
    kernel_size: int
    signed: bool

    def _first(self, like: Tensor, dtype: torch.dtype) -> Tensor:
        """The place of each window's first value; (H / k, W / k), of a single row (W / k)."""
        (height, width), step = like.shape[-2:], self.kernel_size
        row_step, device = step * self.width, like.device
        columns = torch.arange(0, width * step, step, dtype=dtype, device=device)
        if height == 1:
            return columns
        rows = torch.arange(0, height * row_step, row_step, dtype=dtype, device=device)
        return rows[:, None] + columns


class PlaceCodes(_Windows):
    """The place within the plane, for planes so small that a byte holds it."""

    __slots__ = ()

    @staticmethod
    def fit(places: int, *, signed: bool) -> bool:
        """Whether a byte holds the places of a plane."""
        return places <= (_SIGN_BIT if signed else 256)

    @property
    def row_step(self) -> int:
        """From a value to the one below it, in codes."""
        return self.width

    def of_indices(self, indices: Tensor) -> Tensor:
        """Places within a plane, int64 -> codes, uint8, of the same shape."""
        return indices.to(torch.uint8)

    def of_offsets(self, offsets: Tensor) -> Tensor:
        """Places within a window, ``row * row_step + column`` -> codes, in their memory."""
        return offsets.add_(self._first(offsets, torch.uint8))

    def with_signs(self, codes: Tensor, positive: Tensor | None) -> tuple[Tensor, ...]:
        """What is kept of codes, in whose memory the signs go, and of booleans; None: no signs."""
        if positive is not None:
            codes.add_(positive.view(torch.uint8), alpha=_SIGN_BIT)
        return (codes,)

    def decode(self, kept: tuple[Tensor, ...]) -> tuple[Tensor, Tensor | None]:
        """The places within a plane, int64, and a byte that is zero where there was no sign."""
        (codes,) = kept
        if not self.signed:
            return codes.to(torch.int64), None
        return (codes & (_SIGN_BIT - 1)).to(torch.int64), codes & _SIGN_BIT


class CellCodes(_Windows):
    """The place within the window, ``row * kernel_size + column``, in planes of any size."""

    __slots__ = ()

    @property
    def row_step(self) -> int:
        """As `PlaceCodes.row_step`."""
        return self.kernel_size

    @property
    def _signs_apart(self) -> bool:
        """Whether a sign does not fit the code's byte, as with the 256 cells of a 16x16 window."""
        return self.signed and self.kernel_size**2 > _SIGN_BIT

    def of_indices(self, indices: Tensor) -> Tensor:
        """As `PlaceCodes.of_indices`."""
        offsets = (indices - self._first(indices, torch.int64)).to(torch.int32)
        # All of them asked before the first changes the offsets.
        for is_later in [offsets >= row * self.width for row in range(1, self.kernel_size)]:
            offsets.add_(is_later, alpha=self.kernel_size - self.width)
        return offsets.to(torch.uint8)

    def of_offsets(self, offsets: Tensor) -> Tensor:
        """As `PlaceCodes.of_offsets`: there is nothing to do."""
        return offsets

    def with_signs(self, codes: Tensor, positive: Tensor | None) -> tuple[Tensor, ...]:
        """As `PlaceCodes.with_signs`; signs may come second, eight to a byte."""
        if positive is None:
            return (codes,)
        if self._signs_apart:
            return (codes, pack_bits(positive))
        return (codes.add_(positive.view(torch.uint8), alpha=_SIGN_BIT),)

    def decode(self, kept: tuple[Tensor, ...]) -> tuple[Tensor, Tensor | None]:
        """As `PlaceCodes.decode`."""
        codes, positive = kept[0], None
        if self._signs_apart:
            positive = unpack_bits(kept[1], codes.shape[0])
        elif self.signed:
            positive = codes & _SIGN_BIT
            codes = codes & (_SIGN_BIT - 1)
        offsets = codes.to(torch.int64)
        for row in range(1, self.kernel_size):
            offsets.add_(codes >= row * self.kernel_size, alpha=self.width - self.kernel_size)
        return offsets.add_(self._first(codes, torch.int64)), positive
