"""What the six discriminators take in training, lean beside plain."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gaslayers import peak_memory, saved_bytes
from gaslayers.models import CASES, VARIANTS, build_discriminator

LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}


def build(case: str, variant: str, *, memory_efficient: bool | str, frozen: bool) -> nn.Module:
    network = build_discriminator(case, variant=variant, memory_efficient=memory_efficient)
    return network.requires_grad_(not frozen)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
@pytest.mark.parametrize("frozen", [False, True], ids=["D step", "G step"])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("case", CASES)
def test_lean_keeps_less_than_half_of_plain(case, variant, frozen, layout) -> None:
    x = torch.zeros(2, 1, 28, 28).to(memory_format=layout).requires_grad_(frozen)
    plain, lean, recompute = (
        saved_bytes(
            build(case, variant, memory_efficient=mode, frozen=frozen).to(memory_format=layout), x
        )
        for mode in (False, True, "recompute")
    )
    assert recompute <= lean < 0.5 * plain


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
@pytest.mark.parametrize("frozen", [False, True], ids=["D step", "G step"])
@pytest.mark.parametrize("variant", ["as_coded", "modern"])
@pytest.mark.parametrize("case", CASES)
def test_lean_peaks_below_plain(case, variant, frozen, layout) -> None:
    x = torch.zeros(2, 1, 28, 28).to(memory_format=layout).requires_grad_(frozen)
    plain, lean, recompute = (
        peak_memory(
            build(case, variant, memory_efficient=mode, frozen=frozen).to(memory_format=layout), x
        ).peak
        for mode in (False, True, "recompute")
    )
    assert max(lean, recompute) < plain
