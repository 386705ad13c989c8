from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gaslayers.lean.fused.pool.packing import (
    digits_a_byte,
    pack_bits,
    packed_size,
    unpack_bits,
    unpack_digits,
)


@given(count=st.integers(0, 19), seed=st.integers(0, 99))
def test_unpack_undoes_pack(count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand((count, 3, 2), generator=generator) > 0.5
    packed = pack_bits(values)
    assert packed.shape[0] == -(-count // 8)
    assert torch.equal(unpack_bits(packed, count), values.to(torch.uint8))


@pytest.mark.parametrize(
    ("radix", "digits"), [(2, 8), (4, 4), (5, 3), (6, 3), (7, 2), (16, 2), (17, 1), (256, 1)]
)
def test_as_many_digits_share_a_byte_as_fit(radix: int, digits: int) -> None:
    assert digits_a_byte(radix) == digits
    assert radix**digits <= 256 < radix ** (digits + 1)


@given(count=st.integers(0, 50), radix=st.integers(2, 255), seed=st.integers(0, 99))
def test_unpacked_digits_are_units_then_tens(count: int, radix: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    digits = torch.randint(0, radix, (count,), generator=generator)
    size = packed_size(count, radix)
    lines = torch.zeros(digits_a_byte(radix), size, dtype=torch.int64)
    lines.view(-1)[:count] = digits
    packed = sum(line * radix**power for power, line in enumerate(lines))
    assert torch.equal(unpack_digits(packed.to(torch.uint8), radix, count), digits.to(torch.uint8))
