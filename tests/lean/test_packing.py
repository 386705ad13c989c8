from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from gaslayers.lean.packing import pack_bits, unpack_bits


@given(count=st.integers(0, 19), seed=st.integers(0, 99))
def test_unpack_undoes_pack(count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand((count, 3, 2), generator=generator) > 0.5
    packed = pack_bits(values)
    assert packed.shape[0] == -(-count // 8)
    assert torch.equal(unpack_bits(packed, count), values.to(torch.uint8))
