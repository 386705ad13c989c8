"""Branches of bare convolutions side by side: which of them run as one, and how they do."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gaslayers.lean.execution import Execution, reason_for_plain
from gaslayers.lean.inception import Kernel, compose, convolve, geometry_of, join
from gaslayers.lean.inception_cost import BranchShape, Choice, choose
from gaslayers.lean.layout import convolution_layout
from gaslayers.lean.separable_row import reason_against_precision


@dataclasses.dataclass(frozen=True)
class Composition:
    """The branches of a block.

    Args:
        branches: The units of each: the convolution alone, or a 1x1 convolution and that one.
        replaced: All modules that are not called where kernels are composed.
        memory_efficient: The block's own word.
    """

    branches: Sequence[Sequence[Any]]
    replaced: Sequence[nn.Module]
    memory_efficient: bool | str

    @property
    def _weights(self) -> list[Tensor]:
        return [unit.conv.weight for units in self.branches for unit in units]

    def reason_against(self) -> str | None:
        """What speaks against composing kernels whatever that costs; None: nothing."""
        reason = reason_for_plain(self.replaced, memory_efficient=bool(self.memory_efficient))
        if reason is not None:
            return reason
        if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            return "a trace would fix the choice for all sizes"
        for units in self.branches:
            for unit in units:
                reason = _reason_against_unit(unit)
                if reason is not None:
                    return reason
        return reason_against_precision(self._weights[0])

    def choose(self) -> Choice:
        """What is composed and joined; only where `reason_against` is None."""
        larger = geometry_of(self._largest[-1])
        shapes = tuple(
            BranchShape(
                out_channels=units[-1].conv.out_channels,
                kernel_size=units[-1].conv.kernel_size[0],
                inner_channels=units[0].conv.out_channels if len(units) > 1 else None,
                inner_bias=len(units) > 1 and units[0].conv.bias is not None,
                joins=geometry_of(units[-1]).offset_in(larger) is not None,
            )
            for units in self.branches
        )
        first = self.branches[0]
        # The compiler looks behind the cache, and warns that it does.
        function = choose.__wrapped__ if torch.compiler.is_compiling() else choose
        return function(
            shapes, in_channels=first[0].conv.in_channels, stride=first[-1].conv.stride[0]
        )

    @property
    def _largest(self) -> Sequence[Any]:
        return max(self.branches, key=lambda units: units[-1].conv.kernel_size[0])

    def execution(self, choice: Choice) -> Execution:
        """What a choice that pays means."""
        path = "one convolution" if choice.joined else "composed convolution"
        what = "all branches" if choice.joined else "a 1x1 and the convolution behind it"
        pixels = max(1, math.ceil(choice.min_pixels))
        return Execution(path, f"{what} are one, for batches of {pixels} pixels or more")

    def suits(self, x: Tensor, choice: Choice) -> bool:
        """Whether an input is large enough, and of the weights' kind."""
        stride = self.branches[0][-1].conv.stride[0]
        pixels = x.shape[0] * math.prod(-(-size // stride) for size in x.shape[2:])
        kinds = {(tensor.dtype, tensor.device) for tensor in (x, *self._weights)}
        return len(kinds) == 1 and pixels > 0 and pixels >= choice.min_pixels

    def run(self, x: Tensor, choice: Choice, alone: Sequence[Callable[[Tensor], Tensor]]) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H', W').

        Args:
            x: The input.
            choice: One that pays.
            alone: What runs each branch that is not composed.
        """
        layout = convolution_layout([x, *self._weights])
        if choice.joined:
            largest = self._largest[-1]
            kernel = join([self._placed(units, largest) for units in self.branches])
            return convolve(x, kernel, geometry_of(largest), layout)
        made = [
            convolve(x, compose(*_convs(units)), geometry_of(units[-1]), layout)
            if composed
            else run(x)
            for units, composed, run in zip(self.branches, choice.composed, alone, strict=True)
        ]
        return torch.cat(made, dim=1)

    def _placed(self, units: Sequence[Any], largest: Any) -> Kernel:
        conv = units[-1].conv
        kernel = Kernel(conv.weight, conv.bias) if len(units) == 1 else compose(*_convs(units))
        offset = geometry_of(units[-1]).offset_in(geometry_of(largest)) or 0
        return kernel.placed(largest.conv.kernel_size[0], offset)


def _convs(units: Sequence[Any]) -> list[Any]:
    return [unit.conv for unit in units]


def _reason_against_unit(unit: Any) -> str | None:
    conv = unit.conv
    if type(conv) is not nn.Conv2d:
        return f"{type(conv).__name__} is no plain Conv2d"
    if conv.groups > 1 or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        return "the convolution has groups, or its padding is no plain zeros"
    for between in (unit.norm, unit.activation):
        if type(between) is not nn.Identity:
            return f"a {type(between).__name__} stands between convolutions"
    return None
