from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gaslayers.lean.packing import bits_for, pack, unpack


@given(bits=st.sampled_from([1, 2, 4, 8]), count=st.integers(0, 19), seed=st.integers(0, 99))
def test_unpack_undoes_pack(bits: int, count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(2**bits, (count, 3, 2), generator=generator, dtype=torch.uint8)
    packed = pack(values, bits)
    assert packed.shape[0] == -(-count * bits // 8)
    assert torch.equal(unpack(packed, bits, count), values)


@pytest.mark.parametrize(("symbols", "bits"), [(2, 1), (3, 2), (4, 2), (9, 4), (17, 8), (256, 8)])
def test_bits_for_is_the_least_that_divides_a_byte(symbols: int, bits: int) -> None:
    assert bits_for(symbols) == bits


def test_bits_for_refuses_more_than_a_byte() -> None:
    with pytest.raises(ValueError, match="`symbols` must be <= 256, got 257"):
        bits_for(257)
