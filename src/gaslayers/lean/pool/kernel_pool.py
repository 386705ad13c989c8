"""Activation and 2x2 max pooling by kernels of our own, which pack several codes to a byte."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from gaslayers.lean.activations import IDENTITY
from gaslayers.lean.native import pool
from gaslayers.lean.pool.coded_pool import CodedPool
from gaslayers.lean.pool.codes import CellCodes
from gaslayers.lean.pool.packing import unpack_digits


@dataclasses.dataclass(frozen=True)
class KernelPool(CodedPool):
    """A `CodedPool` where `gaslayers.lean.native.pool.suits` says so."""

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """As `CodedPool.forward`."""
        pooled, packed = pool.pool(x, self.slope, self.layout, ceil_mode=self.ceil_mode)
        return pooled, (packed,)

    def _unpool_fast(self, grad: Tensor, kept: tuple[Tensor, ...]) -> Tensor:
        return pool.unpool(grad, kept[0], self.shape, self.slope, self.layout)

    def _find_places(self, kept: tuple[Tensor, ...]) -> tuple[Tensor, Tensor | None]:
        shape = pool.pooled_shape(self.shape, ceil_mode=self.ceil_mode)
        count, channels, height, width = shape
        digits = unpack_digits(kept[0], pool.radix_of(self.slope), shape.numel())
        if self.layout == torch.channels_last:
            digits = digits.view(count, height, width, channels).permute(0, 3, 1, 2)
        else:
            digits = digits.view(shape)
        positive = None
        if self.slope != IDENTITY:
            positive = digits < pool.PLACES if self.slope == 0.0 else digits >= pool.PLACES
        # Without signs, which are known by now.
        codes = CellCodes(self.shape[3], self.kernel_size, signed=False)
        places, _ = codes.decode((digits % pool.PLACES,))
        return places, positive
