"""Branches of bare convolutions side by side: which of them run as one, and how they do."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from gaslayers.lean.engine.version import check_seen, seen
from gaslayers.lean.execution import Execution, takes_input
from gaslayers.lean.fused.inception.composition_cost import BranchShape, CompositionChoice, choose
from gaslayers.lean.fused.inception.kernels import Kernel, compose, convolve, join
from gaslayers.lean.fused.parts.units import Unit
from gaslayers.lean.layout import convolution_layout
from gaslayers.lean.modules import are_plain


@dataclasses.dataclass(slots=True)
class Composition:
    """The branches of a block, and how they run.

    Args:
        branches: The units of each: the convolution alone, or a 1x1 convolution and that one.
        choice: Which of them are composed, and whether they are joined.
    """

    branches: Sequence[Sequence[Unit]]
    choice: CompositionChoice

    @property
    def execution(self) -> Execution:
        """What the choice means."""
        joined = self.choice.joined
        path = "one convolution" if joined else "composed convolution"
        what = "all branches" if joined else "a 1x1 and the convolution behind it"
        pixels = max(1, math.ceil(self.choice.min_pixels))
        return Execution(path, f"{what} are one, for batches of {pixels} pixels or more")

    @property
    def _weights(self) -> list[Tensor]:
        return [u.weight for units in self.branches for u in units if u.weight is not None]

    def suits(self, x: Tensor) -> bool:
        """Whether an input is large enough, and of the weights' kind."""
        rows, columns = self.branches[0][-1].conv.stride
        pixels = x.shape[0] * -(-x.shape[2] // rows) * -(-x.shape[3] // columns)
        kinds = {(tensor.dtype, tensor.device) for tensor in (x, *self._weights)}
        plain = takes_input(x) and are_plain(self._weights)
        return plain and len(kinds) == 1 and pixels >= self.choice.min_pixels

    def run(self, x: Tensor, alone: Sequence[Callable[[Tensor], Tensor]]) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H', W').

        Args:
            x: The input.
            alone: What runs each branch that is not composed.
        """
        layout = convolution_layout([x, *self._weights])
        if self.choice.joined:
            largest = _largest(self.branches)
            kernel = join([_placed(units, largest) for units in self.branches])
            y = convolve(x, kernel, largest.geometry, layout)
            _refuse_changes(y, self._weights)
            return y
        made = [
            convolve(x, _kernel(units), units[-1].geometry, layout) if composed else run(x)
            for units, composed, run in zip(self.branches, self.choice.composed, alone, strict=True)
        ]
        return torch.cat(made, dim=1)


def plan_composition(branches: Sequence[Sequence[Unit]]) -> Composition | None:
    """What is composed and joined of these branches; None: nothing is."""
    if any(_reason_against(unit) for units in branches for unit in units):
        return None
    largest = _largest(branches)
    shapes = tuple(
        BranchShape(
            out_channels=units[-1].conv.out_channels,
            kernel_size=units[-1].conv.kernel_size[0],
            inner_channels=units[0].conv.out_channels if len(units) > 1 else None,
            inner_bias=len(units) > 1 and units[0].bias is not None,
            joins=_joins(units[-1], largest),
        )
        for units in branches
    )
    first = branches[0]
    # The compiler looks behind the cache, and warns that it does.
    function = choose.__wrapped__ if torch.compiler.is_compiling() else choose
    choice = function(
        shapes, in_channels=first[0].conv.in_channels, stride=first[-1].conv.stride[0]
    )
    return Composition(branches, choice) if choice.pays else None


def _reason_against(unit: Unit) -> str | None:
    conv = unit.conv
    if unit.weight is None:
        return f"{type(conv).__name__} is no plain Conv2d"
    if unit.weight.shape[2:] != conv.kernel_size:
        return "the convolution's weight is of another size than its constructor gave it"
    if conv.groups > 1 or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        return "the convolution has groups, or its padding is no plain zeros"
    for between in (unit.norm, unit.activation):
        if type(between) is not nn.Identity:
            return f"a {type(between).__name__} stands between convolutions"
    return None


def _joins(unit: Unit, largest: Unit) -> bool:
    """Whether its kernel among zeros in a larger one makes the same map."""
    own, larger = unit.geometry, largest.geometry
    same_size = own.shrinks_by(unit.conv.kernel_size) == larger.shrinks_by(largest.conv.kernel_size)
    return same_size and own.offset_in(larger) is not None


def _refuse_changes(y: Tensor, weights: Sequence[Tensor]) -> None:
    """Refuse a backward pass where a weight was changed, of which the joined kernel is a copy."""
    versions = [seen(weight) for weight in weights]
    if y.requires_grad and any(versions):
        y.register_hook(lambda _: check_seen(*versions))  # type: ignore[no-untyped-call]  # untyped


def _largest(branches: Sequence[Sequence[Unit]]) -> Unit:
    return max((units[-1] for units in branches), key=lambda unit: unit.conv.kernel_size[0])


def _kernel(units: Sequence[Unit]) -> Kernel:
    conv = units[-1].conv
    if len(units) == 1:
        return Kernel(conv.weight, conv.bias)
    reduce = units[0].conv
    return compose(reduce.weight, reduce.bias, conv.weight, conv.bias)


def _placed(units: Sequence[Unit], largest: Unit) -> Kernel:
    offset = units[-1].geometry.offset_in(largest.geometry) or 0
    return _kernel(units).placed(largest.conv.kernel_size[0], offset)
