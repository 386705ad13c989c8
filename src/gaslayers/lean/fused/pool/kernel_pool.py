"""Activation and 2x2 max pooling by kernels of our own, which pack several codes to a byte."""

from __future__ import annotations

import dataclasses

from torch import Tensor

from gaslayers.lean.fused.pool.coded_pool import CodedPool
from gaslayers.lean.native import pool, pool_reference
from gaslayers.lean.native.windows import pooled_shape


@dataclasses.dataclass(frozen=True)
class KernelPool(CodedPool):
    """A `CodedPool` where `gaslayers.lean.native.pool_choice.suits` says so."""

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """As `CodedPool.forward`."""
        pooled, packed = pool.pool(x, self.slope, self.layout, ceil_mode=self.ceil_mode)
        return pooled, (packed,)

    def _unpool_fast(self, grad: Tensor, kept: tuple[Tensor, ...]) -> Tensor:
        return pool.unpool(grad, kept[0], self.shape, self.slope, self.layout)

    def _find_places(self, kept: tuple[Tensor, ...]) -> tuple[Tensor, Tensor | None]:
        pooled = pooled_shape(self.shape, ceil_mode=self.ceil_mode)
        return pool_reference.places_of(kept[0], pooled, self.shape, self.slope, self.layout)
