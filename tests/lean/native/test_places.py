"""Places in windows, by the kernel and by PyTorch's operators: there and back, the same indices."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gaslayers.lean.native import places
from gaslayers.lean.native.places import Windows

LAST = torch.channels_last


@pytest.fixture
def _level(ran: set[str] | None) -> Iterator[None]:
    yield
    assert ran in (None, {"encode_places", "decode_places"})


def check(indices: Tensor, windows: Windows) -> None:
    codes = places.encode(indices, windows)
    assert codes.dtype == windows.dtype
    assert codes.shape == indices.shape
    back = places.decode(codes, windows)
    assert torch.equal(back, indices)
    assert back.stride() == indices.stride()
    # The place itself, by a loop in Python over a few of them.
    axes = len(windows.size)
    for where in itertools.islice(itertools.product(*map(range, indices.shape)), 40):
        rest, along = int(indices[where]), []
        for size in reversed(windows.size):
            along.insert(0, rest % size)
            rest //= size
        code = 0
        for axis in range(axes):
            start = windows.starts[axis][where[indices.dim() - axes + axis]]
            code = code * windows.spans[axis] + along[axis] - start
        assert int(codes[where]) == code


def windows_of(
    size: tuple[int, ...],
    made: tuple[int, ...],
    kernel: int,
    stride: int,
    padding: int,
    dilation: int,
) -> Windows:
    starts = tuple(tuple(i * stride - padding for i in range(count)) for count in made)
    return Windows(size, starts, ((kernel - 1) * dilation + 1,) * len(size))


@pytest.mark.usefixtures("_level")
@pytest.mark.parametrize("layout", [torch.contiguous_format, LAST])
def test_places_of_pooled_images_there_and_back(layout: torch.memory_format) -> None:
    draws = torch.Generator().manual_seed(3)
    for kernel, stride, dilation, ceil in itertools.product(
        (1, 2, 3, 4), (1, 2, 3), (1, 2), (0, 1)
    ):
        for height, width in ((9, 11), (10, 8), (13, 7)):
            padding = kernel // 2
            x = torch.randn(2, 5, height, width, generator=draws).contiguous(memory_format=layout)
            y, indices = F.max_pool2d(
                x, kernel, stride, padding, dilation, ceil_mode=bool(ceil), return_indices=True
            )
            sizes = (height, width), tuple(y.shape[2:])
            check(indices, windows_of(*sizes, kernel, stride, padding, dilation))


@pytest.mark.usefixtures("_level")
def test_places_along_a_line_there_and_back() -> None:
    for kernel, stride in ((2, 2), (3, 1), (5, 3), (200, 7)):
        x = torch.randn(3, 4, 301)
        y, indices = F.max_pool1d(x, kernel, stride, return_indices=True)
        check(indices, windows_of((301,), tuple(y.shape[2:]), kernel, stride, 0, 1))


@pytest.mark.usefixtures("_level", "_threads")
def test_places_in_more_threads_than_rows() -> None:
    _, indices = F.max_pool2d(torch.randn(1, 1, 4, 4), 2, return_indices=True)
    check(indices, windows_of((4, 4), (2, 2), 2, 2, 0, 1))


@pytest.mark.parametrize(
    ("shape", "kernel"),
    [((2, 3, 6, 6, 6), 2), ((1, 2, 40, 40), 20), ((2, 3, 9, 3), 4)],
    ids=["three axes", "more places than a byte holds", "windows wider than the image"],
)
def test_what_the_kernel_does_not_know_goes_to_pytorchs_operators(shape, kernel) -> None:
    pool = F.max_pool3d if len(shape) == 5 else F.max_pool2d
    padding = kernel // 2
    y, indices = pool(torch.randn(shape), kernel, 2, padding, return_indices=True)
    with mock.patch.object(places, "kernels", side_effect=AssertionError("a kernel ran")):
        check(indices, windows_of(tuple(shape[2:]), tuple(y.shape[2:]), kernel, 2, padding, 1))


def test_other_windows_than_places_are_refused_by_pytorchs_operators() -> None:
    _, indices = F.max_pool2d(torch.randn(1, 2, 8, 8), 2, return_indices=True)
    windows = windows_of((8, 8), (3, 3), 2, 2, 0, 1)
    with pytest.raises(RuntimeError, match="size"):
        places.encode(indices, windows)
