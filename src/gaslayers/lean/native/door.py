"""The one door to the kernels: every tensor that is handed to C passes here, at each call.

A kernel trusts what it is told of a tensor, and hooks, casts and replaced parameters can change a
tensor between any two calls. What does not fit is a `Misfit`, and PyTorch's operator runs: it takes
the tensor, or refuses it as it always does. Nothing else in the package asks for an address.

Not looked at is memory that a storage has given back in part (``resize_``), in which PyTorch's own
operators would read as far.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

DTYPES = {torch.float32: "float", torch.float64: "double"}
"""What there are kernels for, and how C names it."""

_REAL = {Tensor, nn.Parameter}
KINDS = {*_REAL, FakeTensor}
"""The types of tensors that kernels know; a subclass may mean anything by its values."""

Place = tuple[int, int]
"""Where a map is, and from one of its pixels to the next, in values."""

NOWHERE: Place = (0, 0)
"""There is no such map."""


NOTHING = (0,)
"""There is no such line."""


class Misfit(Exception):  # noqa: N818  # it is no error: PyTorch's operator runs instead
    """A tensor does not fit the kernel that was to read or write it."""


def pixel_stride(x: Tensor) -> int | None:
    """From one pixel to the next, where these lie at equal distances; None: they do not.

    None as well where pixels share memory, as in an expanded tensor.
    """
    return _even_stride(x.shape, x.stride())


def _even_stride(shape: Sequence[int], strides: Sequence[int]) -> int | None:
    count, channels, height, width = shape
    to_image, to_channel, to_row, to_pixel = strides
    if width == 1:
        to_pixel = to_image if height == 1 else to_row
    is_even = (
        to_channel == 1
        and to_pixel >= channels
        and (height == 1 or to_row == width * to_pixel)
        and (count == 1 or to_image == height * width * to_pixel)
    )
    return to_pixel if is_even else None


class Door:
    """Lets the tensors of one call through that fit the first of them.

    Fake tensors pass with the same checks, and without an address. The methods are called several
    times a layer, and their time is that of a small map: they do little, and call little.

    Args:
        x: (N, C, H, W), in any memory format: its dtype and shape are those of the call.

    Raises:
        Misfit: There are no kernels for it.
    """

    __slots__ = ("_kinds", "_stride", "_strides", "channels", "dtype", "is_real", "pixels", "shape")

    def __init__(self, x: Tensor) -> None:
        self.is_real = is_real = type(x) in _REAL
        self._kinds = _REAL if is_real else KINDS
        self.dtype = dtype = x.dtype
        self.shape = shape = x.shape
        self._strides: tuple[int, ...] = ()
        self._stride = 0
        if dtype not in DTYPES or len(shape) != 4:
            raise Misfit(f"there are no kernels for {describe(x)}")
        count, self.channels, height, width = shape
        self.pixels = count * height * width
        if self.pixels * self.channels == 0:
            raise Misfit(f"there are no values: {describe(x)}")

    def lines(self, *lines: Tensor | None, size: int | None = None) -> list[int]:
        """Where lines are, each of them without gaps; 0 where there is none.

        Args:
            lines: Of a value for each channel.
            size: How many values they must have instead.

        Raises:
            Misfit: One of them is something else.
        """
        kinds, dtype, is_real = self._kinds, self.dtype, self.is_real
        if size is None:
            size = self.channels
        found = []
        try:
            for values in lines:
                if values is None:
                    found.append(0)
                    continue
                if (
                    type(values) not in kinds
                    or values.dtype is not dtype
                    or values.numel() != size
                    or not values.is_contiguous()
                    or not values.is_cpu
                    or values.is_neg()
                ):
                    raise Misfit(f"no line of {size} values: {describe(values)}")
                found.append((values.data_ptr() or _refuse(values)) if is_real else 0)
        except RuntimeError as error:  # of a sparse tensor, or one that a transform wrapped
            raise Misfit(str(error)) from error
        return found

    def map(self, x: Tensor) -> Place:
        """Where a map of the first one's shape is, in channels_last or some channels of such a map.

        Raises:
            Misfit: It is of another shape, or its pixels do not lie at equal distances.
        """
        try:
            strides = x.stride()
            if (
                type(x) not in self._kinds
                or x.dtype is not self.dtype
                or x.shape != self.shape
                or not x.is_cpu
                or x.is_neg()
            ):
                raise Misfit(f"no map of shape {tuple(self.shape)}: {describe(x)}")
            if strides != self._strides:
                stride = _even_stride(self.shape, strides)
                if stride is None:
                    raise Misfit(f"no even map: {describe(x)}")
                self._strides, self._stride = strides, stride
            return (x.data_ptr() or _refuse(x)) if self.is_real else 0, self._stride
        except RuntimeError as error:
            raise Misfit(str(error)) from error

    def _address(self, values: Tensor, dtype: torch.dtype) -> int:
        """Where a tensor of any shape and strides is."""
        try:
            if (
                type(values) not in self._kinds
                or values.dtype is not dtype
                or not values.is_cpu
                or values.is_neg()
            ):
                raise Misfit(f"no {dtype} in memory: {describe(values)}")
            return (values.data_ptr() or _refuse(values)) if self.is_real else 0
        except RuntimeError as error:
            raise Misfit(str(error)) from error

    def dense(self, x: Tensor, layout: torch.memory_format) -> int:
        """Where a map is that fills its memory in this format.

        Raises:
            Misfit: It does not.
        """
        address = self._address(x, self.dtype)
        if not x.is_contiguous(memory_format=layout):
            raise Misfit(f"no map in {layout}: {describe(x)}")
        return address

    def codes(self, packed: Tensor, size: int) -> int:
        """Where so many bytes are, one after the other.

        Raises:
            Misfit: They are not.
        """
        address = self._address(packed, torch.uint8)
        if packed.numel() != size or not packed.is_contiguous():
            raise Misfit(f"no line of {size} bytes: {describe(packed)}")
        return address

    def rows(self, table: Tensor, count: int) -> tuple[int, int]:
        """Where the first row of a table is, and from one row to the next in bytes.

        Args:
            table: (rows, C), each row without gaps.
            count: How many rows it must have at least.

        Raises:
            Misfit: They are not.
        """
        address = self._address(table, self.dtype)
        shape, channels = table.shape, self.channels
        if len(shape) != 2 or shape[0] < count or shape[1] != channels:
            raise Misfit(f"no {count} rows of {channels} values: {describe(table)}")
        to_row, to_value = table.stride()
        if to_value != 1 or to_row < channels:
            raise Misfit(f"rows with gaps, or that share memory: {describe(table)}")
        return address, to_row * self.dtype.itemsize

    def kernel(self, weight: Tensor, shape: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
        """Where a convolution's weight is, and its strides, of which any will do.

        Raises:
            Misfit: It is of another shape.
        """
        address = self._address(weight, self.dtype)
        if weight.shape != shape:
            raise Misfit(f"no weight of shape {shape}: {describe(weight)}")
        return address, weight.stride()

    def made(self, *tensors: Tensor | None) -> list[int]:
        """Where memory is that was made for this call; 0 where there is none.

        Raises:
            Misfit: A mode made something else of it.
        """
        found = []
        for values in tensors:
            if values is None or not self.is_real:
                found.append(0)
            elif type(values) is Tensor:
                found.append(values.data_ptr())
            else:
                raise Misfit(f"no plain tensor was made: {describe(values)}")
        return found

    def end_of(self, place: Place) -> int:
        """Where a map of the first one's shape ends."""
        address, stride = place
        return address + ((self.pixels - 1) * stride + self.channels) * self.dtype.itemsize

    def keep_lines_apart(self, lines: Sequence[int], place: Place) -> None:
        """Refuse lines, of a value for each channel, that share memory or lie in a map.

        Raises:
            Misfit: They do.
        """
        length, before = self.channels * self.dtype.itemsize, 0
        start, end = place[0] - length, self.end_of(place)
        for address in sorted(lines):
            if address:
                if address < before or start < address < end:
                    raise Misfit("lines of which one is written share memory, or lie in a map")
                before = address + length

    def keep_maps_apart(self, written: Place, read: Iterable[Place]) -> None:
        """Refuse a map that is written where another one is read.

        Raises:
            Misfit: It is.
        """
        start, stride = written
        end = self.end_of(written)
        for place in read:
            other = place[0]
            if other and start < self.end_of(place) and other < end:
                # Slices of the channels of one map lie between each other.
                ahead = (other - start) // self.dtype.itemsize % stride
                if stride != place[1] or not self.channels <= ahead <= stride - self.channels:
                    raise Misfit("a map that is written shares memory with one that is read")


def line(values: Tensor, dtype: torch.dtype, size: int) -> int:
    """Where so many values of any dtype are, one after the other; 0: of a fake tensor, or of none.

    `Door.lines` asks the same of channels, of which all must be real or fake as the call's map is.

    Raises:
        Misfit: They are not.
    """
    try:
        if (
            type(values) not in KINDS
            or values.dtype is not dtype
            or values.numel() != size
            or not values.is_contiguous()
            or not values.is_cpu
            or values.is_neg()
        ):
            raise Misfit(f"no line of {size} values of {dtype}: {describe(values)}")
        is_real = type(values) in _REAL
        return (values.data_ptr() or _refuse(values)) if is_real else 0
    except RuntimeError as error:  # of a sparse tensor, or one that a transform wrapped
        raise Misfit(str(error)) from error


def _refuse(values: Tensor) -> int:
    """What takes the place of an address of zero."""
    if values.numel() > 0:
        raise Misfit(f"no memory: {describe(values)}")
    return 0


def describe(values: Tensor) -> str:
    """What a tensor is, without its values."""
    return f"{type(values).__name__} of {values.dtype} on {values.device}, {tuple(values.shape)}"
