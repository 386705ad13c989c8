"""Elementwise 2x2 max pooling against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from gaslayers.lean.fused.pool import strided as strided_pool


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 5), st.integers(1, 40)),
    values=st.integers(1, 5),  # few, so that most windows have several largest ones
    seed=st.integers(0, 1000),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_values_and_places_are_those_of_pytorch(shape, values: int, seed: int, dtype) -> None:
    count, channels, height, width = shape
    generator = torch.Generator().manual_seed(seed)
    size = (count, channels, 2 * height, 2 * width)
    x = torch.randint(-2, values - 2, size, generator=generator).to(dtype)
    expected, indices = F.max_pool2d(x, 2, return_indices=True)
    found = strided_pool.pool(x, 2 * width)
    if found is None:  # which zero of a window it is, PyTorch's kernel alone tells
        assert not expected.all()
        return
    pooled, offsets = found
    first = torch.arange(height)[:, None] * 4 * width + 2 * torch.arange(width)
    assert torch.equal(pooled, expected)
    assert torch.equal(offsets + first, indices)


def test_infinities_are_values() -> None:
    inf = float("inf")
    x = torch.tensor([[[[-inf, -inf, inf, 1.0], [-inf, 3.0, inf, 2.0]]]])
    found = strided_pool.pool(x, 4)
    assert found is not None
    assert found[0][0, 0, 0].tolist() == [3.0, inf]
    assert found[1][0, 0, 0].tolist() == [5, 0]


@pytest.mark.parametrize("special", [0.0, -0.0, float("nan")])
def test_zeros_and_nans_are_left_to_pytorch(special: float) -> None:
    assert strided_pool.pool(torch.full((1, 1, 2, 2), special), 2) is None


@pytest.mark.parametrize(
    ("x", "kernel_size", "layout"),
    [
        (torch.zeros(1, 2, 4, 6), 3, torch.contiguous_format),
        (torch.zeros(1, 2, 3, 6), 2, torch.contiguous_format),
        (torch.zeros(1, 2, 4, 5), 2, torch.contiguous_format),
        (torch.zeros(1, 2, 4, 12)[..., ::2], 2, torch.contiguous_format),
        (torch.zeros(1, 2, 4, 6), 2, torch.channels_last),
        (torch.zeros(1, 2, 4, 6, device="meta"), 2, torch.contiguous_format),
    ],
)
def test_other_windows_formats_and_devices_are_left_to_pytorch(x, kernel_size, layout) -> None:
    assert strided_pool.suits(torch.zeros(1, 2, 4, 6), 2, torch.contiguous_format)
    assert not strided_pool.suits(x, kernel_size, layout)
