"""The strategy of feature maps: what it draws, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from hypothesis import find, given, settings
from hypothesis import strategies as st

from gaslayers.testing import feature_maps


@given(x=feature_maps())
def test_maps_are_small_images_of_finite_numbers(x: torch.Tensor) -> None:
    assert x.dim() == 4
    assert all(1 <= size <= 8 for size in x.shape)
    assert x.dtype in (torch.float32, torch.float64)
    assert x.isfinite().all()
    assert not x.requires_grad


@given(
    channels=st.integers(1, 6),
    batch=st.integers(1, 4),
    low=st.integers(1, 5),
    high=st.integers(5, 9),
    data=st.data(),
)
def test_maps_keep_to_the_given_sizes(channels, batch, low, high, data) -> None:
    strategy = feature_maps(
        channels, max_batch_size=batch, min_side=low, max_side=high, dtypes=[torch.float64]
    )
    x = data.draw(strategy)
    assert 1 <= len(x) <= batch
    assert x.shape[1] == channels
    assert all(low <= side <= high for side in x.shape[2:])
    assert x.dtype == torch.float64


def is_layout(x: torch.Tensor, layout: str) -> bool:
    last = x.is_contiguous(memory_format=torch.channels_last)
    return {
        "contiguous": x.is_contiguous() and not last,
        "channels_last": last and not x.is_contiguous(),
        "strided": not last and not x.is_contiguous(),
    }[layout]


LAYOUTS = ["contiguous", "channels_last", "strided"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_memory_format_is_drawn(layout: str) -> None:
    assert is_layout(find(feature_maps(), lambda x: is_layout(x, layout)), layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=30)
@given(data=st.data())
def test_only_the_given_memory_formats_are_drawn(layout: str, data) -> None:
    others = [name for name in LAYOUTS if name != layout]
    assert not is_layout(data.draw(feature_maps(memory_formats=others)), layout)


def test_the_layout_does_not_change_the_numbers() -> None:
    drawn = [
        find(feature_maps(2, min_side=3, max_side=3, memory_formats=[name]), lambda x: True)
        for name in LAYOUTS
    ]
    for x in drawn[1:]:
        torch.testing.assert_close(x, drawn[0], rtol=0, atol=0)


def test_a_failing_map_shrinks_to_the_smallest() -> None:
    x = find(feature_maps(), lambda x: x.shape[2] >= 3)
    assert x.shape == (1, 1, 3, 1)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"channels": 0}, ValueError, r"`channels` must be >= 1, got 0"),
        ({"max_batch_size": 0}, ValueError, r"`max_batch_size` must be >= 1, got 0"),
        ({"min_side": 1.5}, TypeError, r"`min_side` must be an int, got 1\.5"),
        ({"min_side": 5, "max_side": 4}, ValueError, r"`max_side` must be >= 5, got 4"),
        ({"memory_formats": ["nhwc"]}, ValueError, r"`memory_formats` must be one of .*'nhwc'"),
    ],
)
def test_wrong_argument_is_refused(arguments: dict, error: type, message: str) -> None:
    with pytest.raises(error, match="feature_maps: " + message):
        feature_maps(**arguments)
