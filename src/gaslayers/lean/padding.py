"""Zeros at the bottom and right of a map, as far as a convolution reads them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.utils import _pair

from gaslayers._checks import is_tracing


def read_padding(shape: Sequence[int], extra: int, stride: int | Sequence[int]) -> tuple[int, int]:
    """The extra rows and columns that a convolution reads, whose output at stride 1 keeps the size.

    Windows start at multiples of the stride. The one that ends in the extra row starts in row
    ``H - 1``.

    Args:
        shape: Of the map, without the extra zeros.
        extra: Rows and columns that complete the padding, 0 or 1.
        stride: The convolution's; one number for both axes, or a pair.
    """
    # Where sizes are symbols or recorded, nothing may depend on whether they are even.
    if extra and not (torch.compiler.is_compiling() or is_tracing()):
        steps = _pair(stride)
        rows, columns = ((size - 1) % step for size, step in zip(shape[2:], steps, strict=True))
        return 0 if rows else extra, 0 if columns else extra
    return extra, extra


def pad_what_is_read(x: Tensor, extra: int, stride: int | Sequence[int]) -> Tensor:
    """The map with the zeros of `read_padding`; the map itself where there are none."""
    rows, columns = read_padding(x.shape, extra, stride)
    return F.pad(x, (0, columns, 0, rows)) if rows or columns else x


def crop_to(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Take what `pad_what_is_read` put to a map of this shape away from its gradient."""
    rows, columns = x.shape[2] - shape[2], x.shape[3] - shape[3]
    return F.pad(x, (0, -columns, 0, -rows)) if rows or columns else x
