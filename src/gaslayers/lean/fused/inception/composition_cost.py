"""Which convolutions an Inception block without norms and activations runs.

A 1x1 convolution and the k x k one behind it are together one k x k convolution. It reads the
block's input, so that it costs less than the two where that is narrower than what lies between
them, and more where it is wider. All branches together are one convolution too, the smaller kernels
padded with zeros; that pays where convolutions are cheap against reading and writing their maps.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gaslayers.lean.roofline import OPERATOR, traffic

VECTOR = 8
"""Channels that a convolution computes at once: floats in a vector of 32 bytes."""

_LONG_VECTOR_BYTES = 64

# Passes of a training step over a map, reads and writes.
_CONCATENATION = 4
_ADDITION = 3
_CHANNEL_OF_ONES = 4  # also those of the channels that it joins, which are copied
# A convolution runs forward and backward, there for its input and for its weight.
_CONVOLUTIONS = 3
# Small tensors written and read on the way from two kernels to one and back, and what is called.
_KERNEL_PASSES = 12
_KERNEL_OPERATORS = 20


class BranchShape(NamedTuple):
    """What a branch's cost depends on.

    Args:
        out_channels: Channels of its output.
        kernel_size: Side of its kernel.
        inner_channels: Channels between a 1x1 convolution and the kernel; None: there is none.
        inner_bias: Whether that 1x1 convolution has a bias.
        joins: Whether its kernel can be padded to the block's largest.
    """

    out_channels: int
    kernel_size: int
    inner_channels: int | None = None
    inner_bias: bool = False
    joins: bool = True


class CompositionChoice(NamedTuple):
    """How a block runs, from so many pixels of output on.

    Args:
        composed: For each branch, whether its two convolutions run as one.
        joined: Whether all branches run as one.
        min_pixels: Below, composing the kernels would cost more than it saves.
        time: Time of a training step with many pixels, that of the plain composition being 1.
    """

    composed: tuple[bool, ...]
    joined: bool
    min_pixels: float
    time: float

    @property
    def pays(self) -> bool:
        """Whether anything runs otherwise than in the plain composition."""
        return self.joined or any(self.composed)


@dataclasses.dataclass(frozen=True)
class _Time:
    """Time for each pixel of the output, and whatever their number."""

    pixel: float
    fixed: float = 0.0

    def __add__(self, other: _Time) -> _Time:
        return _Time(self.pixel + other.pixel, self.fixed + other.fixed)


def _convolution_time(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    in_pixels: float,
    *,
    vector: int = VECTOR,
) -> float:
    """Time of one convolution; its kernels compute channels by vectors, used to the full or not.

    But for an image's few channels, which have kernels of their own.
    """
    read = in_channels if in_channels < vector else _padded(in_channels, vector)
    arithmetic = 2.0 * read * _padded(out_channels, vector) * kernel_size**2
    return _CONVOLUTIONS * (arithmetic + traffic(in_channels * in_pixels + out_channels))


def _padded(channels: int, vector: int) -> int:
    return -(-channels // vector) * vector


def _units_time(shape: BranchShape, in_channels: int, stride: int) -> _Time:
    """The branch as it stands."""
    inner, in_pixels = shape.inner_channels, stride**2
    if inner is None:
        time = _convolution_time(in_channels, shape.out_channels, shape.kernel_size, in_pixels)
        return _Time(time)
    reduce = in_pixels * _convolution_time(in_channels, inner, 1, 1)
    return _Time(
        reduce + _convolution_time(inner, shape.out_channels, shape.kernel_size, in_pixels)
    )


def _composition_time(shape: BranchShape, in_channels: int) -> float:
    """Two kernels into one, forward and backward."""
    if shape.inner_channels is None:
        return 0.0
    cells = shape.out_channels * shape.kernel_size**2
    arithmetic = 2.0 * _CONVOLUTIONS * cells * shape.inner_channels * in_channels
    passes = traffic(_KERNEL_PASSES * cells * (shape.inner_channels + in_channels))
    return arithmetic + passes + OPERATOR * _KERNEL_OPERATORS


def _ones_time(in_channels: int, out_channels: int, kernel_size: int) -> float:
    """A channel of ones beside the input, for the inner bias at the border."""
    return (
        _convolution_time(in_channels + 1, out_channels, kernel_size, 1.0)
        - _convolution_time(in_channels, out_channels, kernel_size, 1.0)
        + traffic(_CHANNEL_OF_ONES * (in_channels + 1))
    )


def ones_pay(out_channels: int, in_channels: int, kernel_size: int) -> bool:
    """Whether a channel of ones is faster than adding a map, arguments as in a kernel's shape."""
    return _ones_time(in_channels, out_channels, kernel_size) < traffic(_ADDITION * out_channels)


def _border_time(in_channels: int, out_channels: int, kernel_size: int) -> float:
    """The inner bias by the faster of the two."""
    ones = _ones_time(in_channels, out_channels, kernel_size)
    return min(ones, traffic(_ADDITION * out_channels))


def _composed_time(shape: BranchShape, in_channels: int, stride: int) -> _Time:
    """The branch as one convolution."""
    time = _convolution_time(in_channels, shape.out_channels, shape.kernel_size, stride**2)
    if shape.inner_bias:
        time += _border_time(in_channels, shape.out_channels, shape.kernel_size)
    return _Time(time, _composition_time(shape, in_channels))


def _joined_time(shapes: Sequence[BranchShape], in_channels: int, stride: int) -> _Time:
    """All branches as one convolution."""
    out_channels = sum(shape.out_channels for shape in shapes)
    kernel_size = max(shape.kernel_size for shape in shapes)
    time = _convolution_time(in_channels, out_channels, kernel_size, stride**2)
    if any(shape.inner_bias for shape in shapes):
        time += _border_time(in_channels, out_channels, kernel_size)
    passes = _KERNEL_PASSES * out_channels * in_channels * kernel_size**2
    return _Time(
        time, traffic(passes) + sum(_composition_time(shape, in_channels) for shape in shapes)
    )


@functools.lru_cache
def choose(shapes: tuple[BranchShape, ...], *, in_channels: int, stride: int) -> CompositionChoice:
    """The fastest way of a training step that has many pixels.

    Args:
        shapes: The branches in the order of their channels.
        in_channels: Channels that they read.
        stride: Step of the last convolution of each.
    """
    units = [_units_time(shape, in_channels, stride) for shape in shapes]
    composed = [_composed_time(shape, in_channels, stride) for shape in shapes]
    is_composed = tuple(
        shape.inner_channels is not None and one.pixel < two.pixel
        for shape, one, two in zip(shapes, composed, units, strict=True)
    )
    out_channels = sum(shape.out_channels for shape in shapes)
    concatenation = _Time(traffic(_CONCATENATION * out_channels) if len(shapes) > 1 else 0.0)
    plain = sum(units, start=concatenation)
    chosen = sum(
        (one if yes else two for yes, one, two in zip(is_composed, composed, units, strict=True)),
        start=concatenation,
    )
    is_joined = False
    if len(shapes) > 1 and all(shape.joins for shape in shapes):
        joined = _joined_time(shapes, in_channels, stride)
        is_joined = joined.pixel < chosen.pixel
        chosen = joined if is_joined else chosen
    gain = plain.pixel - chosen.pixel
    if is_joined:
        is_composed = tuple(shape.inner_channels is not None for shape in shapes)
    return CompositionChoice(
        composed=is_composed,
        joined=is_joined,
        min_pixels=chosen.fixed / gain if gain > 0 else math.inf,
        time=chosen.pixel / plain.pixel,
    )


def vector_of(weight: Tensor) -> int:
    """Channels that a convolution by this kernel computes at once, on this machine."""
    if weight.is_cpu and torch.backends.cpu.get_cpu_capability() == "AVX512":
        return _LONG_VECTOR_BYTES // weight.element_size()
    return VECTOR


@functools.lru_cache
def joining_pays(
    out_channels: tuple[int, ...], kernel_sizes: tuple[int, ...], *, in_channels: int, vector: int
) -> bool:
    """Whether convolutions of one input that keep its size are faster as one, in training.

    Args:
        out_channels: Channels of each.
        kernel_sizes: Side of the kernel of each.
        in_channels: Channels that they read.
        vector: As from `vector_of`.
    """
    together = sum(out_channels)
    apart = traffic(_CONCATENATION * together) + sum(
        _convolution_time(in_channels, channels, kernel_size, 1.0, vector=vector)
        for channels, kernel_size in zip(out_channels, kernel_sizes, strict=True)
    )
    joined = _convolution_time(in_channels, together, max(kernel_sizes), 1.0, vector=vector)
    return joined < apart
