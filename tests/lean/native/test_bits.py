"""One bit per value, by the kernel and by PyTorch's operators: the same bits, and the way back."""

from __future__ import annotations

from collections.abc import Iterator
from unittest import mock

import pytest
import torch
from torch import Tensor

from gaslayers.lean.native import bits, kernels
from gaslayers.lean.native.compiling import library_path
from gaslayers.lean.native.door import Misfit
from gaslayers.lean.native.kernels import Kernels
from tests.lean.native.needs import CAPABILITIES, needs_kernels

TESTS = {
    "above zero": bits.ABOVE_ZERO,
    "not at most zero": bits.NOT_AT_MOST_ZERO,
    "not zero": bits.NOT_ZERO,
    "not at least zero": bits.NOT_AT_LEAST_ZERO,
}
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool)
COUNTS = (1, 7, 8, 9, 1023, 1024, 1025, 8 * 4096 + 3, 100_001)


def special(count: int, dtype: torch.dtype) -> Tensor:
    """Numbers of all kinds, in a line that ends with its memory."""
    if dtype == torch.bool:
        return torch.arange(count) % 3 == 0
    info = torch.finfo(dtype)
    kinds = [0.0, -0.0, 1.5, -1.5, torch.inf, -torch.inf, torch.nan, info.tiny, -info.tiny]
    kinds += [info.max, info.min, info.smallest_normal / 2, -info.smallest_normal / 2]
    line = torch.tensor(kinds, dtype=dtype).repeat(-(-count // len(kinds)))[:count].clone()
    line[-1:] = torch.tensor(-torch.nan)  # with its sign
    return line


def expected_bits(values: Tensor, test: bits.Test) -> list[bool]:
    """By Python, one value after the other."""
    asked = {
        bits.ABOVE_ZERO.code: lambda value: value > 0,
        bits.NOT_AT_MOST_ZERO.code: lambda value: not value <= 0,
        bits.NOT_ZERO.code: lambda value: value != 0,
        bits.NOT_AT_LEAST_ZERO.code: lambda value: not value >= 0,
    }[test.code]
    return [bool(asked(value)) for value in values.tolist()]


def one_by_one(packed: Tensor, count: int) -> list[bool]:
    return [bool(packed[i // 8].item() >> i % 8 & 1) for i in range(count)]


@pytest.fixture
def _level(ran: set[str] | None) -> Iterator[None]:
    yield
    assert ran in (None, {"pack_bits", "unpack_bits"})


@pytest.mark.usefixtures("_level", "_threads")
@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_are_those_of_a_slow_loop_and_give_two_values_back(dtype: torch.dtype) -> None:
    for name, test in TESTS.items():
        for count in COUNTS:
            values = special(count, dtype)
            packed = bits.pack(values, test)
            assert packed.shape == (-(-count // 8),), name
            if count < 2000:
                assert one_by_one(packed, count) == expected_bits(values, test), name
            made = torch.empty(count, dtype=dtype)
            bits.unpack(packed, made, -2.0, torch.inf)
            low, high = (False, True) if dtype == torch.bool else (-2.0, torch.inf)
            mask = test.holds(values)
            wanted = torch.where(mask, torch.tensor(high), torch.tensor(low)).to(dtype)
            assert torch.equal(made, wanted), (name, count)


@pytest.mark.usefixtures("_level", "_threads")
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_lies_behind_the_last_value_is_neither_read_nor_written(dtype: torch.dtype) -> None:
    for count in COUNTS:
        packed = bits.pack(torch.ones(count + 9, dtype=dtype)[:count], bits.NOT_ZERO)
        assert one_by_one(packed, 8 * len(packed)) == [True] * count + [False] * (-count % 8)
        line = torch.zeros(count + 9, dtype=dtype)
        bits.unpack(packed, line[:count], 0.0, 1.0)
        assert torch.equal(line != 0, torch.arange(count + 9) < count)


@needs_kernels
@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("level", CAPABILITIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gradient_of_a_rectifier_is_pytorchs(level, dtype, monkeypatch) -> None:
    loaded = mock.Mock(kernels=Kernels(library_path(level)))
    monkeypatch.setattr(kernels, "load", lambda: loaded)
    aten = torch.ops.aten
    for count in COUNTS:
        values, grad = special(count, dtype), special(count + 5, dtype)[5:].clone()
        relu = bits.rectify_backward(grad, bits.pack(values, bits.NOT_AT_MOST_ZERO), 0.0)
        assert_same_bits(relu, aten.threshold_backward(grad, values, 0))
        for slope in (0.2, 1.0, 1e-40):
            leaky = bits.rectify_backward(grad, bits.pack(values, bits.ABOVE_ZERO), slope)
            assert_same_bits(leaky, aten.leaky_relu_backward(grad, values, slope, False))


def assert_same_bits(found: Tensor, expected: Tensor) -> None:
    """NaN as any NaN: which one comes out of a product is the processor's to say."""
    integer = {torch.float32: torch.int32, torch.float64: torch.int64}[found.dtype]
    clean = [torch.where(x.isnan(), torch.nan, x).view(integer) for x in (found, expected)]
    assert torch.equal(*clean)


@needs_kernels
def test_a_gradient_without_a_line_or_without_a_kernel_is_refused() -> None:
    grad = torch.randn(4, 6, 8, 8)
    packed = bits.pack(grad.flatten(), bits.ABOVE_ZERO)
    assert bits.rectify_backward(grad.to(memory_format=torch.channels_last), packed, 0.2).shape
    for unfit in (grad[:, ::2], grad[:1].expand(4, 6, 8, 8), grad.half(), grad.to("meta")):
        with pytest.raises(Misfit):
            bits.rectify_backward(unfit, packed, 0.2)
    for other in (packed[:-1], packed.int()):
        with pytest.raises(Misfit):
            bits.rectify_backward(grad, other, 0.2)


@pytest.mark.parametrize(
    ("shape", "stride", "fills"),
    [
        ((2, 3, 4), (12, 4, 1), True),
        ((2, 3, 4), (1, 8, 2), True),
        ((2, 2), (0, 3), False),  # as far as four values reach, of which two are read twice
        ((2, 3), (4, 1), False),
        ((3, 1, 2), (2, 77, 1), True),
        ((), (), True),
    ],
)
def test_what_fills_its_memory(shape, stride, fills) -> None:
    assert bits.fills_its_memory(torch.empty(100).as_strided(shape, stride)) == fills


@needs_kernels
@pytest.mark.parametrize("break_it", ["short", "strided", "other dtype"])
def test_what_does_not_fit_goes_to_pytorchs_operators(break_it: str) -> None:
    values = special(4096, torch.float32)
    packed = bits.pack(values, bits.ABOVE_ZERO)
    broken = {
        "short": packed[:-1],
        "strided": packed.repeat_interleave(2)[::2],
        "other dtype": packed.to(torch.int64),
    }[break_it]
    made = torch.empty_like(values)
    if break_it == "short":
        with pytest.raises(RuntimeError):
            bits.unpack(broken, made, 0.0, 1.0)
        return
    bits.unpack(broken, made, 0.0, 1.0)
    assert torch.equal(made, (values > 0).float())


@needs_kernels
def test_fake_tensors_take_the_memory_of_real_ones() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        values = torch.empty(4099)
        packed = bits.pack(values, bits.ABOVE_ZERO)
        made = torch.empty(4099)
        bits.unpack(packed, made, 0.0, 1.0)
    assert packed.shape == (513,)
    assert packed.dtype == torch.uint8


@needs_kernels
def test_real_bits_read_among_fake_tensors_leave_nothing_behind() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    values = special(1000, torch.float32)
    packed = bits.pack(values, bits.NOT_ZERO)
    with FakeTensorMode(allow_non_fake_inputs=True):
        bits.unpack(packed, torch.empty(1000), 0.5, 0.75)  # two values that no other test takes
    made = torch.empty(1000)
    bits.unpack(packed, made, 0.5, 0.75)
    assert torch.equal(made, torch.where(values != 0, 0.75, 0.5))


@pytest.mark.parametrize(
    ("line", "other"),
    [
        (lambda x: x.repeat_interleave(2)[::2], lambda x: x),
        (torch._neg_view, torch.neg),
        (
            lambda x: x.clamp(-2, 2).nan_to_num().int(),
            lambda x: x.clamp(-2, 2).nan_to_num().trunc(),
        ),
    ],
)
def test_lines_that_do_not_fit_have_the_bits_of_others_of_these_values(line, other) -> None:
    values = special(1000, torch.float32)
    for test in TESTS.values():
        assert torch.equal(bits.pack(line(values), test), bits.pack(other(values), test))


def test_values_of_a_type_that_the_kernel_does_not_write() -> None:
    packed = bits.pack(special(1000, torch.float32), bits.NOT_ZERO)
    made = torch.zeros(1000, dtype=torch.complex128)
    bits.unpack(packed, made, -1.0, 2.0)
    real = torch.empty(1000, dtype=torch.float64)
    bits.unpack(packed, real, -1.0, 2.0)
    assert torch.equal(made, real + 0j)
