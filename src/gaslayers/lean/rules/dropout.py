"""Dropout is never run again: what it drew is kept, a bit an element."""

from __future__ import annotations

import functools
import struct
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gaslayers.lean.engine.bits import Bits
from gaslayers.lean.engine.form import Form
from gaslayers.lean.engine.operation import Operation, is_small
from gaslayers.lean.engine.table import rule
from gaslayers.lean.engine.whole import Whole
from gaslayers.lean.native.bits import NOT_ZERO


@rule(F.dropout, torch.dropout, F.dropout1d, F.dropout2d, F.dropout3d)
def _dropout(op: Operation) -> Any:
    x, p = op.argument(0, "input"), op.argument(1, "p", 0.5)
    outer, noise = op.pass_.outer, list[Form]()

    def keep(saved: Tensor) -> Form | None:
        if saved.dtype == torch.bool:  # a kernel's own mask, and its own way to scale
            return None if is_small(saved) else Bits(saved, NOT_ZERO, torch.bool, outer=outer)
        if is_small(saved) or saved.shape != x.shape:  # one number a channel
            noise.append(Whole(saved, outer))
        else:
            factor = _reciprocal(1 - p, saved.dtype)
            noise.append(Bits(saved, NOT_ZERO, saved.dtype, high=factor, outer=outer))
        return noise[-1]

    origin = op.origin(x)
    result = op.run(keep)
    if len(noise) == 1 and not op.argument(3, "inplace", False):
        op.record(result, functools.partial(_multiply, noise[0]), [origin])
    return result


def _reciprocal(share: float, dtype: torch.dtype) -> float:
    """One over the share, as PyTorch's operator rounds it: below float64 by way of float32."""
    if dtype == torch.float64:
        return 1 / share
    (single,) = struct.unpack("f", struct.pack("f", share))
    (quotient,) = struct.unpack("f", struct.pack("f", 1 / single))
    return float(quotient)


def _multiply(noise: Form, x: Tensor) -> Tensor:
    return x * noise.restore()
