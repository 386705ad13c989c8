"""How output channels are shared out among branches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gaslayers.blocks._channels import resolve_branch_channels, split_channels


@pytest.mark.parametrize(
    ("total", "weights", "expected"),
    [
        (64, [1, 1], (32, 32)),
        (65, [1, 1], (33, 32)),
        (6, [1, 1, 1, 1], (2, 2, 1, 1)),
        (7, [1, 1, 1, 1], (2, 2, 2, 1)),
        (80, [1, 4.0], (16, 64)),
        (640, [1, 4.0], (128, 512)),
        (10, [0.1, 0.2, 0.7], (1, 2, 7)),
    ],
)
def test_split_is_in_proportion_and_what_is_left_over_goes_first(
    total: int, weights: list[float], expected: tuple[int, ...]
) -> None:
    assert split_channels(total, weights) == expected


@given(
    total=st.integers(1, 2000),
    weights=st.lists(st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0]), min_size=1, max_size=6),
)
def test_split_sums_up_within_one_of_its_proportion(total: int, weights: list[float]) -> None:
    widths = split_channels(total, weights)
    assert sum(widths) == total
    for width, weight in zip(widths, weights, strict=True):
        assert abs(width - total * weight / sum(weights)) <= 1


@given(total=st.integers(1, 2000), branches=st.integers(1, 6))
def test_even_split_never_widens_from_first_to_last(total: int, branches: int) -> None:
    widths = split_channels(total, [1.0] * branches)
    assert list(widths) == sorted(widths, reverse=True)
    assert widths[0] - widths[-1] <= 1


@pytest.mark.parametrize(
    ("total", "given_widths", "error", "message"),
    [
        (1, None, ValueError, r"B: `out_channels` must give each of the 2 branches at least one"),
        (4, (1, 2, 1), ValueError, r"B: `branch_channels` must have one entry for each of the 2"),
        (4, (1, 2), ValueError, r"`branch_channels` must sum to out_channels \(=4\), got \(1, 2\)"),
        (4, (0, 4), ValueError, r"B: `branch_channels` must be >= 1, got 0"),
        (4, 4, TypeError, r"B: `branch_channels` must be a sequence of ints, got 4"),
        (4, (), ValueError, r"B: `branch_channels` must hold at least one int, got \(\)"),
    ],
)
def test_impossible_split_is_refused(total: int, given_widths, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        resolve_branch_channels("B", total, given_widths, [1.0, 1.0])
