"""How to activate and pool a map."""

from __future__ import annotations

import torch
from torch import Tensor

from gaslayers.lean.activations import IDENTITY
from gaslayers.lean.fused.pool import bands as pool_bands
from gaslayers.lean.fused.pool import strided as strided_pool
from gaslayers.lean.fused.pool.coded_pool import CodedPool
from gaslayers.lean.fused.pool.codes import CellCodes, PlaceCodes
from gaslayers.lean.fused.pool.kernel_pool import KernelPool
from gaslayers.lean.fused.pool.operator_pool import OperatorPool
from gaslayers.lean.layout import layout_of
from gaslayers.lean.native import pool_choice


def code_pool(x: Tensor, slope: float, kernel_size: int, *, ceil_mode: bool) -> CodedPool:
    """The fastest way for ``x``, (N, C, H, W)."""
    layout, signed = layout_of(x), slope != IDENTITY
    shared = slope, kernel_size, ceil_mode, x.shape, layout
    if pool_choice.suits(x, kernel_size, layout):
        return KernelPool(*shared)
    height, width = x.shape[2:]
    fits = PlaceCodes.fit(height * width, signed=signed)
    in_bands = (
        not fits
        and PlaceCodes.fit(kernel_size * width, signed=signed)
        and pool_bands.are_free(x, kernel_size, layout)
        and not torch.compiler.is_compiling()
    )
    kind = PlaceCodes if fits or in_bands else CellCodes
    return OperatorPool(
        *shared,
        codes=kind(width, kernel_size, signed),
        in_bands=in_bands,
        strided=strided_pool.suits(x, kernel_size, layout),
    )
