"""What a stage computes before its norm, once more, and the backward pass through it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gaslayers.lean.convolution import ConvolutionGeometry
from gaslayers.lean.fused.parts.units import Unit, reason_against_unit
from gaslayers.lean.rerun import Precision, gradients_of


@dataclasses.dataclass(frozen=True)
class Body:
    """Any module, by autograd.

    Args:
        module: The module, as from `as_called`.
        names: Of the parameters that it reads.
        precision: The autocast that it ran under.
    """

    module: nn.Module
    names: tuple[str, ...]
    precision: Precision

    def run(self, x: Tensor, parameters: Sequence[Tensor]) -> Tensor:
        """Its output, with a graph; by these parameters, whatever the module holds by now."""
        state = dict(zip(self.names, parameters, strict=True))
        with self.precision.restored(), torch.enable_grad():
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

    geometry: ConvolutionGeometry
    precision: Precision

    def run(self, x: Tensor, parameters: Sequence[Tensor]) -> Tensor:
        """As `Body.run`, without a graph."""
        weight, *biases = parameters
        with self.precision.restored():
            return self.geometry.convolve(self.geometry.pad(x), weight, next(iter(biases), None))

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
        padded, mask = self.geometry.pad(x), [*wants, False][:3]
        grad_x, *found = self.geometry.gradients(grad, padded, parameters[0], mask)
        if grad_x is not None:
            grad_x = self.geometry.crop(grad_x, x.shape)
        return [grad_x, *found][: len(wants)]


class NoBody:
    """Nothing: the stage keeps what its norm reads."""

    def run(self, x: Tensor, _parameters: Sequence[Tensor]) -> Tensor:
        """As `Body.run`, without a graph."""
        return x

    def backward(
        self,
        grad: Tensor,
        _made: Tensor,
        _x: Tensor,
        _parameters: Sequence[Tensor],
        _wants: Sequence[bool],
    ) -> list[Tensor | None]:
        """As `Body.backward`."""
        return [grad]


def read_convolution(unit: Unit, precision: Precision) -> ConvolutionBody | None:
    """The body that is no more than this unit's convolution, if it is."""
    is_alone = unit.is_bare and reason_against_unit(unit) is None
    return ConvolutionBody(unit.geometry, precision) if is_alone else None
