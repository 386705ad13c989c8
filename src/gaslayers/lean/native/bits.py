"""Which values pass a test, one bit per value, and what is computed from such bits.

By kernels of our own, in one pass over the map; or by PyTorch's operators, which take five.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional as F

from gaslayers.lean.native.availability import run_on
from gaslayers.lean.native.door import Misfit, describe, line
from gaslayers.lean.native.kernels import kernels
from gaslayers.lean.native.structures import BITS_CALL

_EIGHT = 8
_GATHER = 0x0102040810204080  # moves the lowest bits of eight bytes into the highest byte
_SHIFT = 56


class Test(NamedTuple):
    """What a bit says of a value.

    Args:
        code: ``enum test`` of bits.c.
        holds: The same by PyTorch's operators, as a new tensor of bools.
    """

    code: int
    holds: Callable[[Tensor], Tensor]


ABOVE_ZERO = Test(0, lambda values: values > 0)
NOT_AT_MOST_ZERO = Test(1, lambda values: (values <= 0).logical_not_())
"""What is no number passes, too."""
NOT_ZERO = Test(2, lambda values: values != 0)
NOT_AT_LEAST_ZERO = Test(3, lambda values: (values >= 0).logical_not_())
"""Likewise."""


def pack(values: Tensor, test: Test) -> Tensor:
    """The bits of a line of values, the first one lowest.

    Shape:
        - values: (count,), floating-point or bool, without gaps.
        - Output: (ceil(count / 8),), uint8.
    """
    count = values.numel()
    if not run_on(values) or values.dtype not in _INFINITIES:
        return _pack(values, test)
    try:
        read = line(values, values.dtype, count)
        bits = torch.empty(_bytes_of(count), dtype=torch.uint8, device=values.device)
        made = line(bits, torch.uint8, bits.numel())
    except Misfit:
        return _pack(values, test)
    size, infinity = values.dtype.itemsize, _INFINITIES[values.dtype]
    if read:  # of fake tensors there is nothing to do
        call = BITS_CALL.pack(read, made, 0, 0, count, size, infinity, test.code, 0.0)
        kernels().run("pack_bits", None, call)
    return bits


def unpack(bits: Tensor, values: Tensor, low: float, high: float) -> None:
    """Write one of two values per bit.

    Args:
        bits: As from `pack`.
        values: (count,), without gaps; is written over.
        low: Where the test did not hold.
        high: Where it did.
    """
    is_fake = FakeTensor in (type(bits), type(values))
    table = _table(values.dtype, bits.device, low, high, is_fake=is_fake)
    if not run_on(bits) or values.dtype not in _INFINITIES:
        return _unpack(bits, values, table)
    count = values.numel()
    try:
        read, written = line(bits, torch.uint8, _bytes_of(count)), line(values, values.dtype, count)
        numbers = line(table, values.dtype, table.numel())
    except Misfit:
        return _unpack(bits, values, table)
    if read and written:
        call = BITS_CALL.pack(written, read, numbers, 0, count, values.dtype.itemsize, 0, 0, 0.0)
        kernels().run("unpack_bits", None, call)
    return None


def rectify_backward(grad: Tensor, bits: Tensor, slope: float) -> Tensor:
    """The gradient before a ReLU or LeakyReLU, as PyTorch's operator computes it from the map.

    Args:
        grad: In any order of memory without gaps, which is that of the bits.
        bits: As from `pack`; where one is set, the gradient passes as it is.
        slope: What the other gradients are multiplied by; 0: they become 0, as behind a ReLU.

    Raises:
        Misfit: There is no kernel for it.
    """
    count, integer = grad.numel(), _MASKS.get(grad.dtype)
    if integer is None or not run_on(grad) or not run_on(bits):
        raise Misfit(f"there is no kernel for {describe(grad)}")
    if not fills_its_memory(grad):
        raise Misfit(f"gaps, or shared memory: {describe(grad)}")
    try:
        read = line(grad.as_strided((count,), (1,)), grad.dtype, count)
        known = line(bits, torch.uint8, _bytes_of(count))
        made = torch.empty_strided(grad.shape, grad.stride(), dtype=grad.dtype, device=grad.device)
        written = line(made.as_strided((count,), (1,)), grad.dtype, count)
    except RuntimeError as error:  # as of one that a transform wrapped
        raise Misfit(str(error)) from error
    if read and known and written:
        masks = _values_of_bytes(integer, bits.device, 0, -1)
        numbers = line(masks, integer, masks.numel())
        call = BITS_CALL.pack(
            written, known, numbers, read, count, grad.dtype.itemsize, 0, 0, slope
        )
        kernels().run("rectify_backward", grad.dtype, call)
    return made


def has_backward(x: Tensor) -> bool:
    """Whether there is a kernel for gradients of tensors of this kind."""
    return x.dtype in _MASKS and run_on(x)


def fills_its_memory(tensor: Tensor) -> bool:
    """Whether its elements lie side by side in some order, so that they can be read as a line."""
    if tensor.is_contiguous():
        return True
    expected = 1
    for step, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1:
            if step != expected:
                return False
            expected *= size
    return True


_MASKS = {torch.float32: torch.int32, torch.float64: torch.int64}
"""By the types of gradients that a kernel reads: integers of the same size."""


def _bytes_of(count: int) -> int:
    return -(-count // _EIGHT)


def _pack(values: Tensor, test: Test) -> Tensor:
    """The same by PyTorch's operators."""
    flags = test.holds(values).view(torch.uint8)
    missing = -flags.numel() % _EIGHT
    if missing:
        flags = F.pad(flags, (0, missing))
    words = flags.view(torch.int64).mul_(_GATHER).bitwise_right_shift_(_SHIFT)
    return words.to(torch.uint8)


def _unpack(bits: Tensor, values: Tensor, table: Tensor) -> None:
    """The same by PyTorch's operators."""
    made = F.embedding(bits.flatten().to(torch.int32), table).view(-1)
    values.copy_(made[: values.numel()])


@functools.lru_cache(maxsize=64)
def _values_of_bytes(dtype: torch.dtype, device: torch.device, low: float, high: float) -> Tensor:
    places = torch.arange(_EIGHT, device=device)
    bytes_ = torch.arange(256, device=device)[:, None]
    bits = bytes_.bitwise_right_shift(places).bitwise_and(1) != 0
    if dtype == torch.bool:
        return bits
    # One after the other, since a number times infinity may be none.
    return torch.full((256, _EIGHT), low, dtype=dtype, device=device).masked_fill_(bits, high)


def _table(
    dtype: torch.dtype, device: torch.device, low: float, high: float, *, is_fake: bool
) -> Tensor:
    """The eight values that each byte stands for: (256, 8). One that is fake is not for later."""
    make = _values_of_bytes.__wrapped__ if is_fake else _values_of_bytes
    return make(dtype, device, low, high)


def _infinity(dtype: torch.dtype) -> int:
    """Infinity's bytes as an integer."""
    if dtype == torch.bool:
        return 1
    formats = {torch.float64: ("d", "q"), torch.float32: ("f", "i"), torch.float16: ("e", "h")}
    if dtype == torch.bfloat16:  # the upper half of a float32
        return _infinity(torch.float32) >> 16
    real, integer = formats[dtype]
    (value,) = struct.unpack(integer, struct.pack(real, float("inf")))
    return int(value)


_INFINITIES = {
    dtype: _infinity(dtype)
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool)
}
"""By the types of values that the kernel reads."""
