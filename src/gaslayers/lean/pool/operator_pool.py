"""Activation and max pooling by PyTorch's operators, and their gradient from codes.

ReLU commutes with max pooling, since it keeps order, and is applied to the pooled map. A leaky
ReLU does too, but for its rounding: two neighbouring floats may become equal, and then the plain
pair finds the first of them. It is therefore applied before.
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from gaslayers.lean.activations import IDENTITY, activate, activation_backward
from gaslayers.lean.pool import bands as pool_bands
from gaslayers.lean.pool import strided as strided_pool
from gaslayers.lean.pool.coded_pool import CodedPool
from gaslayers.lean.pool.codes import CellCodes, PlaceCodes


@dataclasses.dataclass(frozen=True)
class OperatorPool(CodedPool):
    """A `CodedPool` of any kind of map.

    Args:
        slope: As for `CodedPool`.
        kernel_size: Likewise.
        ceil_mode: Likewise.
        shape: Likewise.
        layout: Likewise.
        codes: How the choices are kept.
        in_bands: Whether each row of windows is a plane of its own.
        strided: Whether elementwise operators pool, in place of PyTorch's kernel.
    """

    codes: PlaceCodes | CellCodes
    in_bands: bool
    strided: bool

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """As `CodedPool.forward`."""
        if self.slope not in (0.0, IDENTITY):
            x = activate(x, self.slope)
        if self.strided:
            pooled, offsets = strided_pool.pool(x, self.codes.row_step)
            bands = pooled
            if self.in_bands:
                bands, offsets = (pool_bands.split(y, 1, self.layout) for y in (pooled, offsets))
            codes = self.codes.of_offsets(offsets)
        elif self.in_bands:
            pooled, bands, indices = self._pool_bands(x)
            codes = self.codes.of_indices(indices)
        else:
            pooled, indices = F.max_pool2d(
                x, self.kernel_size, ceil_mode=self.ceil_mode, return_indices=True
            )
            bands = pooled
            codes = self.codes.of_indices(indices)
        if self.slope == 0.0:
            bands = activate(bands, self.slope, inplace=True)
        return pooled, self.codes.with_signs(codes, self._positive(bands))

    def _pool_bands(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The pooled map, its bands in the same memory, and places within the bands of ``x``."""
        rest = self.kernel_size - 1 if self.ceil_mode else 0
        count, channels, height, width = x.shape
        size = (height // self.kernel_size, (width + rest) // self.kernel_size)
        # Autograd refuses changes in place to a view that a function returns, so the bands are
        # views of what is returned, and not the other way round.
        pooled = torch.empty(
            (count, channels, *size), dtype=x.dtype, device=x.device, memory_format=self.layout
        )
        bands = pool_bands.split(pooled, 1, self.layout)
        indices = torch.empty_like(bands, dtype=torch.int64)
        torch.ops.aten.max_pool2d_with_indices.out(
            pool_bands.split(x, self.kernel_size, self.layout),
            [self.kernel_size] * 2,
            [self.kernel_size] * 2,
            [0, 0],
            [1, 1],
            self.ceil_mode,
            out=bands,
            indices=indices,
        )
        return pooled, bands, indices

    def _positive(self, activated: Tensor) -> Tensor | None:
        """Where the activation lets a gradient through unchanged; None: everywhere."""
        if self.slope == IDENTITY:
            return None
        # The same on what a ReLU makes, by a faster kernel.
        return activated.bool() if self.slope == 0.0 else activated > 0

    def _find_places(self, kept: tuple[Tensor, ...]) -> tuple[Tensor, Tensor | None]:
        indices, positive = self.codes.decode(kept)
        if self.in_bands:
            shape = (*self.shape[:2], self.shape[2] // self.kernel_size, indices.shape[3])
            indices = pool_bands.join(indices, shape, self.layout)
            positive = None if positive is None else pool_bands.join(positive, shape, self.layout)
            rows = torch.arange(shape[2], device=indices.device)[:, None]
            indices = indices + rows * (self.kernel_size * self.shape[3])
        return indices, positive

    def _unpool_fast(self, grad: Tensor, kept: tuple[Tensor, ...]) -> Tensor:
        """By the operator that PyTorch calls."""
        # Here, where the map is small; of a map of a single pixel it could not be asked for later.
        grad = grad.contiguous(memory_format=self.layout)
        if self.in_bands:
            grad = pool_bands.split(grad, 1, self.layout)
        indices, positive = self.codes.decode(kept)
        if positive is not None:
            grad = activation_backward(grad, positive, self.slope)
        window = [self.kernel_size] * 2
        # Of the pooling's input it reads the shape and the memory format alone.
        whole = torch.empty(
            self.shape, dtype=grad.dtype, device=grad.device, memory_format=self.layout
        )
        made = whole
        if self.in_bands:
            made = pool_bands.split(whole, self.kernel_size, self.layout)
        torch.ops.aten.max_pool2d_with_indices_backward.grad_input(
            grad, made, window, window, [0, 0], [1, 1], self.ceil_mode, indices, grad_input=made
        )
        return whole
