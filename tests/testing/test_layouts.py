"""The layouts lie in memory as their names say, and hold the numbers that they were given."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gaslayers.testing._layout_checks import combinations
from gaslayers.testing._layouts import MAP_LAYOUTS, WEIGHT_LAYOUTS, lay_out, lay_out_weights

REPEATING = ("expanded", "overlapping")
LAST = torch.channels_last


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(3, 4, 5, 6), (1, 1, 1, 1), (2, 1, 4, 1), (1, 5, 1, 3)])
@pytest.mark.parametrize("layout", MAP_LAYOUTS)
def test_a_layout_holds_the_numbers_of_its_map(layout: str, shape, dtype) -> None:
    x = torch.randn(shape, dtype=dtype)
    found = lay_out(x, layout)
    assert found.shape == x.shape
    assert found.dtype == dtype
    if layout.startswith(REPEATING):
        assert {*found.flatten().tolist()} <= {*x.flatten().tolist()}
    else:
        assert torch.equal(found, x)


@pytest.mark.parametrize(
    ("layout", "strides"),
    [
        ("contiguous", (120, 30, 6, 1)),
        ("channels_last", (120, 1, 24, 4)),
        ("channel_slice", (210, 30, 6, 1)),
        ("channel_slice_last", (210, 1, 42, 7)),
        ("channel_step_last", (240, 2, 48, 8)),
        ("crop", (252, 63, 9, 1)),
        ("crop_last", (252, 1, 36, 4)),
        ("batch_step", (240, 30, 6, 1)),
        ("row_step", (240, 60, 12, 1)),
        ("transposed", (120, 30, 1, 5)),
        ("transposed_last", (120, 1, 4, 20)),
        ("batch_innermost", (1, 90, 18, 3)),
        ("reversed", (1, 3, 12, 60)),
        ("gapped", (240, 60, 12, 2)),
        ("expanded_batch", (0, 30, 6, 1)),
        ("expanded_channels", (30, 0, 6, 1)),
        ("expanded_pixels", (4, 1, 0, 0)),
        ("expanded", (0, 0, 0, 0)),
        ("overlapping", (40, 10, 1, 1)),
    ],
)
def test_a_layout_has_its_strides(layout: str, strides: tuple[int, ...]) -> None:
    assert lay_out(torch.randn(3, 4, 5, 6), layout).stride() == strides


def test_an_axis_of_one_has_a_stride_that_no_one_reads() -> None:
    found = lay_out(torch.randn(1, 4, 1, 6), "odd_strides_last")
    assert found.stride() == (4099, 1, 4099, 4)
    assert found.is_contiguous(memory_format=LAST)


def test_negated_numbers_lie_in_memory_with_the_other_sign() -> None:
    x = torch.ones(1, 2, 1, 1)
    found = lay_out(x, "negated")
    assert found.is_neg()
    assert torch.equal(found, x)


def test_beside_the_numbers_of_a_slice_lie_nan() -> None:
    found = lay_out(torch.ones(2, 3, 2, 2), "channel_slice_last")
    beside = torch.as_strided(found, (2, 2, 2, 6), (24, 12, 6, 1), 0)
    assert beside.isnan().sum() == beside.numel() // 2


@pytest.mark.parametrize("layout", WEIGHT_LAYOUTS)
def test_weights_keep_their_numbers_and_their_state(layout: str) -> None:
    block = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3))
    block[0].weight.requires_grad_(False)
    before = {name: value.clone() for name, value in block.state_dict().items()}
    lay_out_weights(block, layout)
    for name, value in block.state_dict().items():
        assert torch.equal(value, before[name]), name
    trained = [name for name, value in block.named_parameters() if not value.requires_grad]
    assert trained == ["0.weight"]


@pytest.mark.parametrize(
    ("layout", "last"),
    [
        ("contiguous", [False, False]),
        ("channels_last", [True, True]),
        ("loaded_last", [True, True]),
        ("loaded_contiguous", [False, False]),
        ("some_last", [True, False]),
    ],
)
def test_weights_lie_as_their_layout_says(layout: str, last: list[bool]) -> None:
    block = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3))
    lay_out_weights(block, layout)
    weights = block[0].weight, block[2].weight
    assert [weight.is_contiguous(memory_format=LAST) for weight in weights] == last


def test_flat_weights_share_one_vector() -> None:
    block = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Conv2d(3, 4, 3))
    lay_out_weights(block, "flat")
    assert len({p.untyped_storage().data_ptr() for p in block.parameters()}) == 1


def test_gapped_weights_are_contiguous_in_no_format() -> None:
    block = nn.Conv2d(2, 3, 3)
    lay_out_weights(block, "gapped")
    assert block.weight.stride() == (36, 18, 6, 2)


def test_the_share_of_the_contract_meets_every_layout_of_each() -> None:
    drawn = [*combinations()]
    assert {c.grad for c in drawn} == {*MAP_LAYOUTS}
    # Of equal neighbours rounding alone says which one a pooling takes.
    tied = {"expanded", "expanded_pixels", "overlapping"}
    assert {*MAP_LAYOUTS} - {c.input for c in drawn} == tied
    assert {c.weights for c in drawn} == {*WEIGHT_LAYOUTS}
    assert len(set(drawn)) == len(drawn)
