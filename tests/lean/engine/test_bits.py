"""One bit per element of a tensor in any layout: what comes back, and in which layout."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gaslayers import lean_saving
from gaslayers.lean.engine.bits import Bits
from gaslayers.lean.native.bits import ABOVE_ZERO, NOT_AT_MOST_ZERO, NOT_ZERO

TESTS = {"above": ABOVE_ZERO, "not at most": NOT_AT_MOST_ZERO, "not": NOT_ZERO}

FULL: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(0, 3),
    "part of a batch": lambda x: x[1:],
    "one number": lambda x: x[1, 2, 3, 4],
    "none": lambda x: x[:0],
}
PARTIAL: dict[str, Callable[[Tensor], Tensor]] = {
    "every second column": lambda x: x[..., ::2],
    "some channels": lambda x: x[:, 1:3],
    "one image for all": lambda x: x[:1].expand(5, -1, -1, -1),
    "one number for all": lambda x: x[:1, :1, :1, :1].expand(x.shape),
    "windows that overlap": lambda x: x.flatten().unfold(0, 4, 2),
}


def values() -> Tensor:
    x = torch.randn(3, 4, 5, 7)
    x[torch.rand(x.shape) < 0.3] = 0.0
    x[torch.rand(x.shape) < 0.1] = torch.nan
    return x


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("layout", [*FULL, *PARTIAL])
def test_each_element_comes_back_as_one_of_two_values(layout: str, test: str) -> None:
    x = {**FULL, **PARTIAL}[layout](values())
    found = Bits(x, TESTS[test], torch.float64, low=-2.0, high=3.0).restore()
    assert found.dtype == torch.float64
    assert torch.equal(found, torch.where(TESTS[test].holds(x), 3.0, -2.0).double())
    if layout in FULL:
        assert found.stride() == x.stride()


@pytest.mark.parametrize("layout", [*FULL, *PARTIAL])
def test_a_mask_comes_back_as_it_was(layout: str) -> None:
    mask = {**FULL, **PARTIAL}[layout](values() > 0)
    assert torch.equal(Bits(mask, NOT_ZERO, torch.bool).restore(), mask)


@pytest.mark.parametrize("layout", [*FULL, *PARTIAL])
def test_nothing_is_kept_but_a_bit_per_element(layout: str) -> None:
    x = {**FULL, **PARTIAL}[layout](values())
    (kept,) = Bits(x, ABOVE_ZERO, x.dtype).parts
    assert kept.restore().untyped_storage().nbytes() == -(-x.numel() // 8)


def test_hooks_around_the_engine_take_the_bits() -> None:
    x, taken = values(), []

    def pack(kept: Tensor) -> int:
        taken.append(kept)
        return len(taken) - 1

    form = Bits(x, ABOVE_ZERO, x.dtype, outer=(pack, taken.__getitem__))
    assert [(kept.dtype, kept.numel()) for kept in taken] == [(torch.uint8, -(-x.numel() // 8))]
    assert torch.equal(form.restore(), (x > 0).float())


@pytest.mark.parametrize("place", [3, 4098])
def test_hardtanh_of_nan_hands_on_what_pytorch_does(place: int) -> None:
    """Whether a gradient passes NaN depends on whether it stands in a full vector."""
    x = torch.randn(4099)
    x[place] = float("nan")
    found = []
    for saves_lean in (False, True):
        leaf = x.clone().requires_grad_()
        with lean_saving() if saves_lean else contextlib.nullcontext():
            made = nn.functional.hardtanh(leaf * 1.0)
        found.append(torch.autograd.grad(made.nan_to_num().sum(), leaf)[0])
    assert torch.equal(*(gradient.nan_to_num(7.0) for gradient in found))
