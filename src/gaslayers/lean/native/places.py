"""Places of maxima in an image to places in their windows, and back: a byte each, where that does.

By a kernel of our own in one pass; or by PyTorch's operators on integers of eight bytes.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from gaslayers.lean.native.availability import run_on
from gaslayers.lean.native.bits import fills_its_memory
from gaslayers.lean.native.door import Misfit, line
from gaslayers.lean.native.kernels import kernels
from gaslayers.lean.native.structures import PLACES_CALL

_BYTE = 2**8


@dataclasses.dataclass(frozen=True)
class Windows:
    """The windows of a pooling.

    Args:
        size: Of the image, along each axis.
        starts: Along each axis, where each window begins in the image.
        spans: Along each axis, over how many pixels a window reaches.
    """

    size: tuple[int, ...]
    starts: tuple[tuple[int, ...], ...]
    spans: tuple[int, ...]

    @property
    def dtype(self) -> torch.dtype:
        """The smallest one that holds a place in a window."""
        most = math.prod(self.spans)
        return torch.uint8 if most <= _BYTE else torch.int16 if most <= 2**15 else torch.int32

    def start(self, axis: int, device: torch.device) -> Tensor:
        """Where windows begin along an axis, in the shape of their places."""
        starts = torch.tensor(self.starts[axis], dtype=torch.int64, device=device)
        return starts.view(-1, *(1,) * (len(self.size) - axis - 1))


def encode(indices: Tensor, windows: Windows) -> Tensor:
    """The places in their windows.

    Args:
        indices: (..., *made), int64: places in an image that is read as one line, as PyTorch's
            pooling counts them.
        windows: Those that they were found in.

    Returns:
        As ``indices``, in a smaller dtype.
    """
    try:
        codes = _empty(indices, torch.uint8)
        _run("encode_places", indices, codes, windows)
    except Misfit:
        return _encode(indices, windows)
    return codes


def decode(codes: Tensor, windows: Windows) -> Tensor:
    """The places in the image, of those in their windows."""
    try:
        indices = _empty(codes, torch.int64)
        _run("decode_places", indices, codes, windows)
    except Misfit:
        return _decode(codes, windows)
    return indices


def _empty(like: Tensor, dtype: torch.dtype) -> Tensor:
    if not run_on(like) or not fills_its_memory(like):
        raise Misfit("there is no kernel for such tensors, or they are no line")
    return torch.empty_strided(like.shape, like.stride(), dtype=dtype, device=like.device)


def _run(kernel: str, indices: Tensor, codes: Tensor, windows: Windows) -> None:
    axes = len(windows.size)
    rows_and_columns = indices.shape[-axes:]
    made = [len(starts) for starts in windows.starts]
    if axes > 2 or windows.dtype != torch.uint8 or windows.spans[-1] > windows.size[-1]:
        raise Misfit("windows of three axes, of many places, or wider than the image")
    if list(rows_and_columns) != made:
        raise Misfit(f"{made} windows for places of shape {tuple(indices.shape)}")
    count, columns = indices.numel(), rows_and_columns[-1]
    rows = rows_and_columns[0] if axes == 2 else 1
    if indices.is_contiguous():
        planes, lanes = count // max(rows * columns, 1), 1
    elif indices.dim() == 4 and indices.is_contiguous(memory_format=torch.channels_last):
        planes, lanes = indices.shape[0], indices.shape[1]
    else:
        raise Misfit("places in no memory format")
    if axes == 1 and lanes != 1:
        raise Misfit("places along one axis in channels_last")
    addresses = (
        line(indices.as_strided((count,), (1,)), torch.int64, count),
        line(codes.as_strided((count,), (1,)), torch.uint8, count),
    )
    if not all(addresses):  # fake tensors, or none
        return
    row_starts = torch.tensor(windows.starts[0] if axes == 2 else (0,), dtype=torch.int64)
    column_starts = torch.tensor(windows.starts[-1], dtype=torch.int64)
    tables = line(row_starts, torch.int64, rows), line(column_starts, torch.int64, columns)
    spans = windows.spans if axes == 2 else (1, *windows.spans)
    sizes = planes, rows, columns, lanes, windows.size[-1], *spans
    kernels().run(kernel, None, PLACES_CALL.pack(*addresses, *tables, *sizes))


def _encode(indices: Tensor, windows: Windows) -> Tensor:
    """The same by PyTorch's operators: along each axis the place, less where the window begins."""
    rest, code, factor = indices, None, 1
    for axis in reversed(range(len(windows.size))):
        along = rest.remainder(windows.size[axis]).sub_(windows.start(axis, indices.device))
        code = along if code is None else code.add_(along, alpha=factor)
        factor *= windows.spans[axis]
        if axis:
            rest = rest.div(windows.size[axis], rounding_mode="floor")
    assert code is not None  # there is an axis
    return code.to(windows.dtype)


def _decode(codes: Tensor, windows: Windows) -> Tensor:
    """The same by PyTorch's operators."""
    rest, indices, factor = codes.to(torch.int64), None, 1
    for axis in reversed(range(len(windows.size))):
        along = rest.remainder(windows.spans[axis]).add_(windows.start(axis, codes.device))
        indices = along if indices is None else indices.add_(along, alpha=factor)
        factor *= windows.size[axis]
        if axis:
            rest = rest.div(windows.spans[axis], rounding_mode="floor")
    assert indices is not None  # there is an axis
    return indices
