"""Activation and max pooling, and their gradient from codes of a byte a cell.

The plain pair keeps the activation's output (4 bytes a value), and max pooling its input and an
8-byte index a cell. What the backward pass needs of them is, a pooled cell, which value was the
largest and whether the activation let it through.

ReLU commutes with max pooling, since it keeps order, and is applied to the pooled map. A leaky
ReLU does too, but for its rounding: two neighbouring floats may become equal, and then the plain
pair finds the first of them. It is therefore applied before.
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from gaslayers.lean import pool_bands, strided_pool
from gaslayers.lean.activations import IDENTITY, activate, activation_backward
from gaslayers.lean.execution import is_batch
from gaslayers.lean.layout import layout_of
from gaslayers.lean.native import pool as native_pool
from gaslayers.lean.pool_codes import CellCodes, PlaceCodes


@dataclasses.dataclass(frozen=True, slots=True)
class CodedPool:
    """Activation and max pooling of one input; windows do not overlap.

    Args:
        slope: The activation's slope below zero.
        kernel_size: Height and width of a window.
        ceil_mode: Whether a last window may reach over the edge.
        shape: Of the input.
        layout: The input's memory format.
        codes: How the choices are kept.
        in_bands: Whether each row of windows is a plane of its own.
        strided: Whether elementwise operators pool, in place of PyTorch's kernel.
        native: Whether kernels of our own do.
    """

    slope: float
    kernel_size: int
    ceil_mode: bool
    shape: torch.Size
    layout: torch.memory_format
    codes: PlaceCodes | CellCodes
    in_bands: bool
    strided: bool
    native: bool

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Activate and pool; return the pooled map and what `backward` takes.

        Shape:
            - x: (N, C, H, W).
            - Output: (N, C, H / k, W / k), rounded up in ceil mode.
        """
        if self.native:
            pooled, codes = native_pool.pool(x, self.slope, self.layout, ceil_mode=self.ceil_mode)
            return pooled, (codes,)
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

    def backward(self, grad: Tensor, kept: tuple[Tensor, ...]) -> Tensor:
        """The gradient before activation and pooling, from what `forward` kept.

        It comes in the memory format of the pooling's input, as from PyTorch's operator, whatever
        that of ``grad`` is; later kernels would else run in another one and round otherwise.

        Shape:
            - grad: (N, C, H / k, W / k).
            - Output: (N, C, H, W).
        """
        if is_batch(grad):
            return self._unpool(grad, kept)
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self._unpool(grad, kept).contiguous(memory_format=self.layout)
        if self.native:
            return native_pool.unpool(grad, kept[0], self.shape, self.slope, self.layout)
        return self._unpool_in_place(grad, kept)

    def _unpool(self, grad: Tensor, kept: tuple[Tensor, ...]) -> Tensor:
        """By operators that can be differentiated, compiled and given a batch."""
        indices, positive = self.codes.decode(kept)
        if self.in_bands:
            shape = (*self.shape[:2], self.shape[2] // self.kernel_size, indices.shape[3])
            indices = pool_bands.join(indices, shape, self.layout)
            positive = None if positive is None else pool_bands.join(positive, shape, self.layout)
            rows = torch.arange(shape[2], device=indices.device)[:, None]
            indices = indices + rows * (self.kernel_size * self.shape[3])
        if positive is not None:
            grad = activation_backward(grad, positive, self.slope)
        window = [self.kernel_size] * 2
        return F.max_unpool2d(grad, indices, window, output_size=self.shape[2:])

    def _unpool_in_place(self, grad: Tensor, kept: tuple[Tensor, ...]) -> Tensor:
        """By the operator that PyTorch calls, which is faster."""
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


def code_pool(x: Tensor, slope: float, kernel_size: int, *, ceil_mode: bool) -> CodedPool:
    """How to activate and pool ``x``."""
    layout, signed = layout_of(x), slope != IDENTITY
    height, width = x.shape[2:]
    native = native_pool.suits(x, kernel_size, layout)
    fits = not native and PlaceCodes.fit(height * width, signed=signed)
    in_bands = (
        not (native or fits)
        and PlaceCodes.fit(kernel_size * width, signed=signed)
        and pool_bands.are_free(x, kernel_size, layout)
        and not torch.compiler.is_compiling()
    )
    kind = PlaceCodes if fits or in_bands else CellCodes
    return CodedPool(
        slope,
        kernel_size,
        ceil_mode,
        x.shape,
        layout,
        codes=kind(width, kernel_size, signed),
        in_bands=in_bands,
        strided=strided_pool.suits(x, kernel_size, layout),
        native=native,
    )
