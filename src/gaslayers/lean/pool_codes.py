"""Which value of a pooling window was the largest, and whether it was positive, in a byte or less.

PyTorch's max pooling keeps the place of that value within its plane, in 8 bytes. Its place within
the window is enough.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from gaslayers.lean.packing import bits_for, pack, unpack

_SIGN_BIT = 128


@dataclasses.dataclass(frozen=True)
class PoolCodes:
    """Codes of max pooling whose stride is its kernel.

    A code is the way from a window's first value to its largest: ``row * pitch + column``. With
    the image's width as pitch, which a narrow image's codes have room for, that is a difference of
    places; else the pitch is the window's.

    Args:
        width: Width of what is pooled.
        kernel_size: Height and width of a window.
        signed: Whether signs are kept, too.
        packed: Whether codes share bytes, which takes time.
    """

    width: int
    kernel_size: int
    signed: bool
    packed: bool

    @property
    def _pitch(self) -> int:
        last = (self.kernel_size - 1) * (self.width + 1)
        return self.kernel_size if self.packed or last >= _SIGN_BIT else self.width

    @property
    def _sign(self) -> int:
        """What a positive value adds to its code."""
        return 1 << (self.kernel_size**2 - 1).bit_length() if self.packed else _SIGN_BIT

    @property
    def _signs_apart(self) -> bool:
        """Whether a sign does not fit the code's byte, as with the 256 cells of a 16x16 window."""
        return self.signed and self.kernel_size**2 > _SIGN_BIT

    @property
    def _bits(self) -> int:
        if not self.packed:
            return 8
        merged = self.signed and not self._signs_apart
        return bits_for(2 * self._sign if merged else self.kernel_size**2)

    def _first(self, like: Tensor) -> Tensor:
        """The place of each window's first value; (H / k, W / k)."""
        (height, width), step = like.shape[-2:], self.kernel_size
        row_step = step * self.width
        rows = torch.arange(0, height * row_step, row_step, device=like.device)
        return rows[:, None] + torch.arange(0, width * step, step, device=like.device)

    def encode(self, indices: Tensor, positive: Tensor | None) -> tuple[Tensor, ...]:
        """What is kept of places within a plane and of signs.

        Shape:
            - indices: (N, C, H / k, W / k), int64.
            - positive: the same, bool; None: no signs are kept.
            - Output: uint8, of that shape or fewer samples; the signs second where they are apart.
        """
        offsets = indices - self._first(indices)
        if self._pitch != self.width:
            offsets = offsets.to(torch.int32)
            later = [offsets >= row * self.width for row in range(1, self.kernel_size)]
            for is_later in later:
                offsets.add_(is_later, alpha=self._pitch - self.width)
        codes = offsets.to(torch.uint8)
        signs: tuple[Tensor, ...] = ()
        if positive is not None and self._signs_apart:
            signs = (pack(positive.view(torch.uint8), 1),)
        elif positive is not None:
            codes.add_(positive.view(torch.uint8), alpha=self._sign)
        return (pack(codes, self._bits), *signs)

    def decode(self, kept: tuple[Tensor, ...], count: int) -> tuple[Tensor, Tensor | None]:
        """The places within a plane, int64, and a byte that is zero where there was no sign."""
        codes = unpack(kept[0], self._bits, count)
        positive = None
        if self._signs_apart:
            positive = unpack(kept[1], 1, count)
        elif self.signed:
            positive = codes & self._sign
            codes = codes & (self._sign - 1)
        offsets = codes.to(torch.int64)
        if self._pitch != self.width:
            for row in range(1, self.kernel_size):
                offsets.add_(codes >= row * self._pitch, alpha=self.width - self._pitch)
        return offsets.add_(self._first(codes)), positive
