"""What units in a row keep and how long they take, as a chain and not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from gaslayers.lean.activations import IDENTITY, negative_slope
from gaslayers.lean.fused.parts.units import Unit
from gaslayers.lean.roofline import traffic

SLICE_FACTOR = 8.0
"""How much longer PyTorch's norm takes backward on a slice of channels in channels-last memory.

Its CPU kernel for what is not dense goes value by value. A chain copies the slice first.
"""

# Passes over a map, reads and writes.
_COPY = 2
_NORM_FORWARD, _NORM_AGAIN, _NORM_BACKWARD = 4, 2, 7
_ACTIVATION_FORWARD, _ACTIVATION_BACKWARD = 2, 3


class UnitShape(NamedTuple):
    """What a unit's cost depends on.

    Args:
        in_channels: Channels that its convolution reads.
        out_channels: Channels that it writes.
        area: Cells of its kernel.
        groups: Its groups.
        stride: Its stride.
        norm: Whether there is a norm.
        activation: Whether there is an activation.
        norm_first: Whether the norm precedes the activation.
        trained: Whether the convolution's weight or bias gets a gradient, for which autograd keeps
            its input.
    """

    in_channels: int
    out_channels: int
    area: int
    groups: int = 1
    stride: int = 1
    norm: bool = False
    activation: bool = False
    norm_first: bool = False
    trained: bool = True


def shape_of(unit: Unit) -> UnitShape:
    """Read a unit that `units.reason_against_unit` has nothing against."""
    conv = unit.conv
    return UnitShape(
        in_channels=conv.in_channels,
        out_channels=conv.out_channels,
        area=math.prod(conv.kernel_size),
        groups=conv.groups,
        stride=conv.stride[0],
        norm=type(unit.norm) is not nn.Identity,
        activation=negative_slope(unit.activation) != IDENTITY,
        norm_first=unit.norm_first,
        trained=unit.is_trained,
    )


def scales(shapes: Sequence[UnitShape]) -> list[int]:
    """Pixels of each unit's output for each one of the last unit's."""
    strides = [shape.stride**2 for shape in shapes[1:]]
    return [math.prod(strides[i:]) for i in range(len(shapes))]


def _convolution_time(shape: UnitShape) -> float:
    """For each pixel of its output."""
    read, made = shape.in_channels, shape.out_channels
    arithmetic = 2.0 * read * made * shape.area / shape.groups
    return arithmetic + traffic(read * shape.stride**2 + made)


def _reads_slices(shapes: Sequence[UnitShape], *, sliced: bool) -> bool:
    """Whether the last unit's norm is the first to read the output's gradient."""
    return sliced and shapes[-1].norm and not (shapes[-1].norm_first and shapes[-1].activation)


def pass_times(shapes: Sequence[UnitShape], *, sliced: bool) -> tuple[float, float]:
    """Time of a training pass of the plain composition, and of a chain without recomputation."""
    total = 0.0
    for shape, scale in zip(shapes, scales(shapes), strict=True):
        values = traffic(shape.out_channels)
        time = (2 + shape.trained) * _convolution_time(shape)
        if shape.activation:
            time += (_ACTIVATION_FORWARD + _ACTIVATION_BACKWARD) * values
        if shape.norm:
            time += (_NORM_FORWARD + _NORM_BACKWARD) * values
        total += scale * time
    if not _reads_slices(shapes, sliced=sliced):
        return total, total
    output = traffic(shapes[-1].out_channels)
    return total + _NORM_BACKWARD * (SLICE_FACTOR - 1) * output, total + _COPY * output


def keeps_output(shape: UnitShape) -> bool:
    """Whether autograd keeps the unit's output for the unit's own sake."""
    return shape.activation and (shape.norm_first or not shape.norm)


def plain_values(shapes: Sequence[UnitShape]) -> float:
    """Values that autograd keeps for each pixel of the output, the input's left out."""
    total = 0.0
    for i, (shape, scale) in enumerate(zip(shapes, scales(shapes), strict=True)):
        next_reads = i + 1 < len(shapes) and shapes[i + 1].trained
        total += scale * shape.out_channels * ((next_reads or keeps_output(shape)) + shape.norm)
    return total


def input_values(shapes: Sequence[UnitShape]) -> float:
    """Values of the input for each pixel of the output."""
    return scales(shapes)[0] * shapes[0].stride ** 2 * shapes[0].in_channels


def recomputation_time(shapes: Sequence[UnitShape], keep: Sequence[bool]) -> float:
    """Time to compute again, from the last unit backwards, what the backward pass asks for."""
    total = 0.0
    wants_output = False
    pixels = scales(shapes)
    for i in reversed(range(len(shapes))):
        shape = shapes[i]
        values = pixels[i] * traffic(shape.out_channels)
        wants_output = wants_output or (shape.norm and shape.norm_first and shape.activation)
        if wants_output and shape.norm:
            total += _NORM_AGAIN * values
            total += _ACTIVATION_FORWARD * values * (shape.activation and shape.norm_first)
        makes_map = (wants_output or shape.norm or shape.activation) and not keep[i]
        if makes_map:
            total += pixels[i] * _convolution_time(shape)
            first = shape.activation and not (shape.norm and shape.norm_first)
            total += _ACTIVATION_FORWARD * values * first
        wants_output = makes_map or shape.trained
    return total
