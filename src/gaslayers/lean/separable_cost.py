"""Which maps of units in a row are kept, and which are computed again."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

from torch import nn

from gaslayers.lean.activations import IDENTITY, negative_slope
from gaslayers.lean.roofline import convolution, traffic

ALLOWANCE = 0.1
"""What a training pass through the units alone may take longer than the plain composition.

They are a part of a network, whose time grows by less.
"""

SLICE_FACTOR = 8.0
"""How much longer PyTorch's norm takes backward on a slice of channels in channels-last memory.

Its CPU kernel for what is not dense goes value by value. A chain copies the slice first.
"""

# Passes over a map, reads and writes.
_COPY = 2
_NORM_FORWARD, _NORM_AGAIN, _NORM_BACKWARD = 4, 2, 7
_ACTIVATION_FORWARD, _ACTIVATION_BACKWARD = 2, 3


@dataclasses.dataclass(frozen=True)
class UnitShape:
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


def shape_of(unit: Any) -> UnitShape:
    """Read a unit that `gaslayers.lean.separable_step.reason_against_step` has nothing against."""
    conv = unit.conv
    return UnitShape(
        in_channels=conv.in_channels,
        out_channels=conv.out_channels,
        area=math.prod(conv.kernel_size),
        groups=conv.groups,
        stride=conv.stride[0],
        norm=type(unit.norm) is not nn.Identity,
        activation=negative_slope(unit.activation) != IDENTITY,
        norm_first=unit.order == "norm_act",
        trained=any(parameter.requires_grad for parameter in conv.parameters()),
    )


@dataclasses.dataclass(frozen=True)
class Choice:
    """Which maps are kept.

    Args:
        keep: For each unit, whether its map is.
        values: Values kept for each pixel of the output, the input's own included.
        plain_values: The same of the plain composition.
        time: Time of a training pass, that of the plain composition being 1.
    """

    keep: tuple[bool, ...]
    values: float
    plain_values: float
    time: float

    @property
    def pays(self) -> bool:
        """Whether less is kept than by the plain composition, or the same in less time."""
        return (self.values, self.time) < (self.plain_values, 1.0)


def _scales(shapes: Sequence[UnitShape]) -> list[int]:
    """Pixels of each unit's output for each one of the last unit's."""
    strides = [shape.stride**2 for shape in shapes[1:]]
    return [math.prod(strides[i:]) for i in range(len(shapes))]


def _convolution_time(shape: UnitShape) -> float:
    return convolution(
        shape.in_channels,
        shape.out_channels,
        shape.area,
        groups=shape.groups,
        in_pixels=shape.stride**2,
    )


def _reads_slices(shapes: Sequence[UnitShape], *, sliced: bool) -> bool:
    """Whether the last unit's norm is the first to read the output's gradient."""
    return sliced and shapes[-1].norm and not (shapes[-1].norm_first and shapes[-1].activation)


def _pass_time(shapes: Sequence[UnitShape]) -> float:
    """Time of a training pass, without recomputation."""
    total = 0.0
    for shape, scale in zip(shapes, _scales(shapes), strict=True):
        values = traffic(shape.out_channels)
        time = (2 + shape.trained) * _convolution_time(shape)
        if shape.activation:
            time += (_ACTIVATION_FORWARD + _ACTIVATION_BACKWARD) * values
        if shape.norm:
            time += (_NORM_FORWARD + _NORM_BACKWARD) * values
        total += scale * time
    return total


def _keeps_output(shape: UnitShape) -> bool:
    """Whether autograd keeps the unit's output for the unit's own sake."""
    return shape.activation and (shape.norm_first or not shape.norm)


def _plain_values(shapes: Sequence[UnitShape]) -> float:
    """Values that autograd keeps for each pixel of the output, the input's left out."""
    total = 0.0
    for i, (shape, scale) in enumerate(zip(shapes, _scales(shapes), strict=True)):
        next_reads = i + 1 < len(shapes) and shapes[i + 1].trained
        total += scale * shape.out_channels * ((next_reads or _keeps_output(shape)) + shape.norm)
    return total


def _input_values(shapes: Sequence[UnitShape]) -> float:
    return _scales(shapes)[0] * shapes[0].stride ** 2 * shapes[0].in_channels


def _recomputation_time(shapes: Sequence[UnitShape], keep: Sequence[bool]) -> float:
    """Time to compute again, from the last unit backwards, what the backward pass asks for."""
    total = 0.0
    wants_output = False
    scales = _scales(shapes)
    for i in reversed(range(len(shapes))):
        shape = shapes[i]
        values = scales[i] * traffic(shape.out_channels)
        wants_output = wants_output or (shape.norm and shape.norm_first and shape.activation)
        if wants_output and shape.norm:
            total += _NORM_AGAIN * values
            total += _ACTIVATION_FORWARD * values * (shape.activation and shape.norm_first)
        makes_map = (wants_output or shape.norm or shape.activation) and not keep[i]
        if makes_map:
            total += scales[i] * _convolution_time(shape)
            first = shape.activation and not (shape.norm and shape.norm_first)
            total += _ACTIVATION_FORWARD * values * first
        wants_output = makes_map or shape.trained
    return total


def choose_kept(
    shapes: Sequence[UnitShape],
    *,
    sliced: bool = False,
    input_is_kept: bool = False,
    allowance: float = ALLOWANCE,
) -> Choice:
    """The fewest values kept among the choices whose time stays within the allowance.

    Args:
        shapes: The units in order.
        sliced: Whether the output's gradient comes as a slice of channels in channels-last memory.
        input_is_kept: Whether something else keeps the input in any case.
        allowance: Share of the plain composition's time.
    """
    scales = _scales(shapes)
    pass_time = plain_time = _pass_time(shapes)
    if _reads_slices(shapes, sliced=sliced):
        output = traffic(shapes[-1].out_channels)
        plain_time += _NORM_BACKWARD * (SLICE_FACTOR - 1) * output
        pass_time += _COPY * output
    input_values = 0.0 if input_is_kept else _input_values(shapes)
    choices = []
    for keep in itertools.product((True, False), repeat=len(shapes)):
        kept = sum(
            scale * shape.out_channels * is_kept
            for shape, scale, is_kept in zip(shapes, scales, keep, strict=True)
        )
        choice = Choice(
            keep=keep,
            values=input_values + kept,
            plain_values=_plain_values(shapes) + input_values * shapes[0].trained,
            time=(pass_time + _recomputation_time(shapes, keep)) / plain_time,
        )
        if choice.time <= 1 + allowance:
            choices.append(choice)
    # To keep every map takes no time that the plain composition does not take.
    return min(choices, key=lambda choice: (choice.values, choice.time))


@functools.lru_cache
def choose_start(
    shapes: tuple[UnitShape, ...], *, input_is_kept: bool = False, **options: Any
) -> tuple[int, Choice] | None:
    """The first unit of the best chain that ends with the last one, and what it keeps.

    The units in front of it run on their own, and keep what autograd keeps of them. None: no
    chain pays.

    Args:
        shapes: The units in order.
        input_is_kept: Whether something else keeps the input in any case.
        **options: The others of `choose_kept`.
    """
    best: tuple[float, int, Choice] | None = None
    for start in range(len(shapes)):
        choice = choose_kept(
            shapes[start:],
            input_is_kept=_keeps_output(shapes[start - 1]) if start else input_is_kept,
            **options,
        )
        values = choice.values + _front_values(shapes, start, input_is_kept=input_is_kept)
        if choice.pays and (best is None or values < best[0]):
            best = values, start, choice
    return None if best is None else best[1:]


def _front_values(shapes: Sequence[UnitShape], start: int, *, input_is_kept: bool) -> float:
    """Values that the units in front of a chain keep for each pixel of the output."""
    if start == 0:
        return 0.0
    values = _scales(shapes)[start - 1] * _plain_values(shapes[:start])
    return values + _input_values(shapes) * (shapes[0].trained and not input_is_kept)
