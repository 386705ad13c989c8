"""What a stage computes before its norm, a second time, and the backward pass through it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gaslayers.lean.fused.separable.step import UnitStep
from gaslayers.lean.fused.units import Unit, read_step, reason_against_step
from gaslayers.lean.rerun import gradients_of


@dataclasses.dataclass(frozen=True)
class Body:
    """Any module, by autograd.

    Args:
        module: The module, as from `as_called`.
        names: Of the parameters that it reads.
    """

    module: nn.Module
    names: tuple[str, ...]

    def run(self, x: Tensor, parameters: Sequence[Tensor]) -> Tensor:
        """Its output, with a graph; by these parameters, whatever the module holds by now."""
        state = dict(zip(self.names, parameters, strict=True))
        with torch.enable_grad():
            return functional_call(self.module, state, (x,), tie_weights=False)

    def backward(
        self,
        grad: Tensor,
        made: Tensor,
        x: Tensor,
        parameters: Sequence[Tensor],
        wants: Sequence[bool],
    ) -> list[Tensor | None]:
        """The gradients of the input and the parameters, where they are wanted.

        Args:
            grad: Of the output.
            made: The output, as from `run`.
            x: What `run` was given.
            parameters: Likewise.
            wants: Which gradients are wanted.
        """
        return gradients_of(made, grad, [x, *parameters], wants)


@dataclasses.dataclass(frozen=True)
class ConvolutionBody:
    """A convolution alone, by the operators that autograd would call: it needs no graph."""

    step: UnitStep

    def run(self, x: Tensor, parameters: Sequence[Tensor]) -> Tensor:
        """As `Body.run`, without a graph."""
        return self.step.make_map(x, _with_bias(parameters))

    def backward(
        self,
        grad: Tensor,
        _made: Tensor,
        x: Tensor,
        parameters: Sequence[Tensor],
        wants: Sequence[bool],
    ) -> list[Tensor | None]:
        """As `Body.backward`."""
        if not any(wants):
            return [None] * len(wants)
        mask = [*wants, False][:3]
        found = self.step.backward_convolution(grad, x, _with_bias(parameters), mask)
        return found[: len(wants)]


def _with_bias(parameters: Sequence[Tensor]) -> list[Any]:
    weight, bias = (*parameters, None)[:2]
    return [weight, bias]


def read_convolution(unit: Unit) -> ConvolutionBody | None:
    """The body that is no more than this unit's convolution, if it is."""
    alone = type(unit.norm) is nn.Identity and type(unit.activation) is nn.Identity
    if not alone or reason_against_step(unit) is not None:
        return None
    step, _ = read_step(unit)
    return ConvolutionBody(step)
