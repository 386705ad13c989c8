"""Activation and max pooling by PyTorch's operators, and their gradient from codes.

ReLU commutes with max pooling, since it keeps order, and is applied to the pooled map; the signs of
zeros are then put right. A leaky ReLU does too, but for its rounding: two neighbouring floats may
become equal, and then the plain pair finds the first of them. It is therefore applied before.
"""

from __future__ import annotations

import dataclasses
import functools

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from gaslayers.lean.activations import IDENTITY, activate, activation_backward
from gaslayers.lean.fused.pool import bands as pool_bands
from gaslayers.lean.fused.pool import strided as strided_pool
from gaslayers.lean.fused.pool.coded_pool import CodedPool
from gaslayers.lean.fused.pool.codes import CellCodes, PlaceCodes


def _may_activate_last(x: Tensor) -> bool:
    """Whether a ReLU makes the same of a value wherever it stands in a tensor."""
    return not x.is_cpu or torch.compiler.is_compiling() or _relu_keeps_signs()


@functools.cache
def _relu_keeps_signs() -> bool:
    """Whether -0.0 stays -0.0, by vector instructions and in the rest that fills no vector."""
    with _disable_current_modes(), torch.no_grad():
        zeros = torch.full((67,), -0.0, device="cpu", dtype=torch.float32)
        return bool(torch.signbit(F.relu(zeros)).all())


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
        is_last = self.slope == 0.0 and _may_activate_last(x)
        if not is_last:
            x = activate(x, self.slope)
        found = strided_pool.pool(x, self.codes.row_step) if self.strided else None
        if found is not None:
            pooled, offsets = found
            bands = pooled
            if self.in_bands:
                bands, offsets = (pool_bands.split(y, 1, self.layout) for y in (pooled, offsets))
            codes = self.codes.of_offsets(offsets)
        elif self.in_bands:
            pooled, bands, indices = self._pool_bands(x)
            codes = self.codes.of_indices(indices)
            del indices
        else:
            pooled, indices = F.max_pool2d(
                x, self.kernel_size, ceil_mode=self.ceil_mode, return_indices=True
            )
            bands = pooled
            codes = self.codes.of_indices(indices)
            del indices
        if is_last:
            activate(pooled, self.slope, inplace=True)
            if found is None:
                self._clear_signs(pooled, x)
        return pooled, self.codes.with_signs(codes, self._positive(bands))

    def _clear_signs(self, pooled: Tensor, x: Tensor) -> None:
        """Make the zeros of a ReLU those that pooling behind it takes: the first of each window.

        A first value below zero became 0.0; -0.0 stays where it comes first.
        """
        step, (rows, columns) = self.kernel_size, pooled.shape[2:]
        first = x[:, :, ::step, ::step][:, :, :rows, :columns]
        pooled.masked_fill_((first < 0).logical_and_(pooled == 0), 0.0)

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
        if indices.shape != grad.shape:
            message = (
                f"saved codes should have shape {tuple(grad.shape)}, not {tuple(indices.shape)}"
            )
            raise RuntimeError(message)
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
