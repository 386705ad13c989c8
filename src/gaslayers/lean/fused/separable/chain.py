"""Convolution units in a row that keep their input and compute what they made of it again.

Autograd keeps, of each unit, the convolution's input and the norm's and the activation's: of a
depthwise separable convolution with ReLU and batch norm twice, seven maps of the input's size when
it widens four times. Elementwise layers are cheap to run again, from the statistics of the first
time, and so are 1x1 convolutions; `kept_maps` says which maps are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gaslayers.lean.execution import is_batch
from gaslayers.lean.fused.separable.step import TENSOR_COUNT, TRAINABLE_COUNT, Tensors, UnitStep
from gaslayers.lean.fused.units import Unit, read_step
from gaslayers.lean.native.norm_call import is_even
from gaslayers.lean.precision import without_autocast
from gaslayers.lean.rerun import as_saved, gradients_of, kinds_of, stand_ins


def _by_step(values: Sequence[Any]) -> list[Any]:
    return [values[i : i + TENSOR_COUNT] for i in range(0, len(values), TENSOR_COUNT)]


class _Recalled:
    """What the units read and made, kept or computed again when it is first asked for.

    Args:
        steps: The units.
        x: What the first one reads.
        own: The tensors of each.
        maps: The map of each, or None where it was not kept.
        statistics: Mean and inverse standard deviation of each norm.
    """

    def __init__(
        self,
        steps: Sequence[UnitStep],
        x: Tensor,
        own: Sequence[Tensors],
        maps: Sequence[Tensor | None],
        statistics: Sequence[Tensors],
    ) -> None:
        self.step_count = len(steps)
        self._steps = steps
        self._own = own
        self._statistics = statistics
        self._maps = list(maps)
        self._inputs: list[Tensor | None] = [x] + [None] * len(steps)

    def input_of(self, index: int) -> Tensor:
        """What a unit reads; after the last one, the output."""
        found = self._inputs[index]
        if found is None:
            before = index - 1
            found = self._steps[before].finish_again(
                self.map_of(before), self._own[before], self._statistics[before]
            )
            self._inputs[index] = found
        return found

    def map_of(self, index: int) -> Tensor:
        """The map that a unit makes."""
        found = self._maps[index]
        if found is None:
            found = self._steps[index].make_map(self.input_of(index), self._own[index])
            self._maps[index] = found
        return found

    def forget(self, index: int) -> None:
        """Free the map of a unit and its output."""
        self._maps[index] = self._inputs[index + 1] = None


class UnitChain(torch.autograd.Function):
    """Units in a row; the last arguments are the tensors of each, `TENSOR_COUNT` a unit."""

    @staticmethod
    def forward(
        ctx: Any,
        steps: Sequence[UnitStep],
        keep: Sequence[bool],
        x: Tensor,
        *tensors: Tensor | None,
    ) -> Tensor:
        """(N, C, H, W) -> (N, out_channels, H', W')."""
        own = _by_step(tensors)
        saved: list[Tensor | None] = [x, *tensors]
        for step, kept, parts in zip(steps, keep, own, strict=True):
            made = step.make_map(x, parts)
            x, mean, inverse_std = step.finish(made, parts)
            saved += [made if kept else None, mean, inverse_std]
        ctx.steps, ctx.shape = steps, x.shape
        ctx.kinds = kinds_of(saved)
        ctx.save_for_backward(*saved)
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """(N, out_channels, H', W') -> the gradients of the input and of the tensors."""
        steps = ctx.steps
        x, *rest = as_saved(ctx.saved_tensors, ctx.kinds)
        wants_x, *wants = ctx.needs_input_grad[2:]
        count = len(steps) * TENSOR_COUNT
        tensors, rest = rest[:count], rest[count:]
        if torch.is_grad_enabled() or is_batch(grad):
            inputs, wants = [x, *tensors], [wants_x, *wants]
            with without_autocast(grad.device):
                return None, None, *_differentiate(steps, grad, inputs, wants, rest[::3], ctx.shape)
        statistics = [rest[i + 1 : i + 3] for i in range(0, len(rest), 3)]
        own, wanted = _by_step(tensors), _by_step(wants)
        recalled = _Recalled(steps, x, own, rest[::3], statistics)
        del x, rest
        grads: list[Tensor | None] = []
        current: Tensor | None = grad
        # A chain runs without autocast; the backward pass may be within one.
        with without_autocast(grad.device):
            for i in reversed(range(len(steps))):
                wants_input = wants_x or any(map(any, wanted[:i]))
                current, found = _backward_step(
                    steps[i], i, current, recalled, own[i], statistics[i], wanted[i], wants_input
                )
                grads = [*found, None, None, *grads]
                recalled.forget(i)
        return None, None, current, *grads


def _backward_step(
    step: UnitStep,
    index: int,
    grad: Tensor | None,
    recalled: _Recalled,
    own: Tensors,
    statistics: Tensors,
    wanted: Sequence[bool],
    wants_input: bool,
) -> tuple[Tensor | None, list[Tensor | None]]:
    """The gradients of one unit's input and of its trainable tensors."""
    mask = [wants_input, *wanted[:2]]
    norm_mask = [any(mask), *wanted[2:TRAINABLE_COUNT]]
    found: list[Tensor | None] = [None] * TRAINABLE_COUNT
    # The output's gradient is autograd's, not to be written to.
    is_own = index + 1 < recalled.step_count
    if grad is None or not any(norm_mask):
        return None, found
    grad, *found[2:] = _backward_to_map(
        step, index, grad, recalled, own, statistics, norm_mask, is_own=is_own
    )
    if grad is None or not any(mask):
        return None, found
    recalled.forget(index)
    grad, *found[:2] = step.backward_convolution(grad, recalled.input_of(index), own, mask)
    return grad, found


def _backward_to_map(
    step: UnitStep,
    index: int,
    grad: Tensor,
    recalled: _Recalled,
    own: Tensors,
    statistics: Tensors,
    norm_mask: list[bool],
    *,
    is_own: bool,
) -> Sequence[Tensor | None]:
    """The gradients of what the convolution made, and of the norm's weight and bias."""
    if step.norm is not None and is_even(grad):
        made = recalled.map_of(index)
        if step.takes_kernels(made, own):
            return step.backward_by_kernels(grad, made, own, statistics, norm_mask, in_place=is_own)
    if step.activates_last:
        output = recalled.input_of(index + 1)
        grad = step.backward_activation(grad, output, in_place=is_own)
    through: Tensor | None = grad
    found: list[Tensor | None] = [None, None]
    if step.norm is not None:
        made = recalled.map_of(index)
        through, *found = step.backward_norm(grad, made, own, statistics, norm_mask)
    if through is not None and step.activates_first:
        made, in_place = recalled.map_of(index), is_own or step.norm is not None
        through = step.backward_activation(through, made, in_place=in_place)
    return through, *found


def _differentiate(
    steps: Sequence[UnitStep],
    grad: Tensor,
    inputs: Tensors,
    wants: Sequence[bool],
    maps: Sequence[Tensor | None],
    shape: torch.Size,
) -> list[Tensor | None]:
    """The gradients as functions that can be differentiated again: the units run once more.

    The maps that were kept stand in the graph in place of ones made anew. Of an output that is a
    bare convolution's, the shape will do.
    """
    views = stand_ins(inputs, wants)
    x, *tensors = views
    with torch.enable_grad():
        for step, own, kept in zip(steps, _by_step(tensors), maps, strict=True):
            known = kept
            if step is steps[-1] and step.is_bare:
                known = x.new_empty(()).expand(shape)
            made = step.run_to_map(x, own, known)
            x = step.run_from_map(made, own)
    return gradients_of(x, grad, views, wants)


def run_units(units: Sequence[Unit], x: Tensor, keep: Sequence[bool]) -> Tensor:
    """Run units in a row, their maps kept where ``keep`` says so."""
    steps, tensors = [], []
    for unit in units:
        step, own = read_step(unit)
        steps.append(step)
        tensors += own
    return UnitChain.apply(tuple(steps), tuple(keep), x, *tensors)
