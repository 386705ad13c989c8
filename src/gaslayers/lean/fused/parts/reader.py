"""Modules read as the parts that fused functions run, their tensors each in a slot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from gaslayers.lean.activations import known_slope
from gaslayers.lean.batch_norm import is_batch_norm, read_call
from gaslayers.lean.fused.parts.branch import Branch
from gaslayers.lean.fused.parts.convolution import Convolution, KernelSlots
from gaslayers.lean.fused.parts.norm import BatchNorm, Scaling
from gaslayers.lean.fused.parts.norm_activation import NormActivation
from gaslayers.lean.fused.parts.slots import Slot
from gaslayers.lean.fused.parts.units import Unit


class Reader:
    """Collects the tensors of what it reads; whether lean paths know that was asked before.

    Args:
        copies_running: Whether a norm in evaluation reads copies of its running statistics, which
            later batches may move before the backward pass.
    """

    def __init__(self, *, copies_running: bool = False) -> None:
        self.tensors: list[Tensor] = []
        self._copies_running = copies_running

    def _slot(self, tensor: Tensor | None) -> Slot:
        return None if tensor is None else self._add(tensor)

    def _add(self, tensor: Tensor) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def branch(self, units: Sequence[Unit], keep: Sequence[bool]) -> Branch:
        """Units in a row, whose outputs are kept where ``keep`` says so."""
        convolutions, following = [], []
        for unit in units:
            weight: Any = unit.weight
            kernel = KernelSlots(self._add(weight), self._slot(unit.bias))
            convolutions.append(Convolution(unit.geometry, (kernel,)))
            has_norm = type(unit.norm) is not nn.Identity
            following.append(
                self.norm_activation(
                    unit.norm, unit.activation, activation_first=not (has_norm and unit.norm_first)
                )
            )
        return Branch(tuple(convolutions), tuple(following), tuple(keep))

    def norm_activation(
        self, norm: nn.Module, activation: nn.Module, *, activation_first: bool = False
    ) -> NormActivation:
        """A norm, or an identity, and an activation of known slope."""
        return NormActivation(self._norm(norm), known_slope(activation), activation_first)

    def _norm(self, norm: Any) -> BatchNorm | Scaling | None:
        if type(norm) is nn.Identity:
            return None
        if not is_batch_norm(norm):
            return Scaling(self._add(norm.channel_scale()))
        call = read_call(norm)
        running: list[Tensor | None] = [None, None]
        if not call.training:
            running = [call.running_mean, call.running_var]
            if self._copies_running:
                running = [None if values is None else values.clone() for values in running]
        slots = [self._slot(tensor) for tensor in (call.weight, call.bias, *running)]
        return BatchNorm(call, *slots)
