"""Norm, activation and convolutions side by side, the first two computed again in backward."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from gaslayers.lean.batch_norm import BatchNormCall
from gaslayers.lean.fused.parts.branch import Branch
from gaslayers.lean.fused.parts.norm import BatchNorm
from gaslayers.lean.fused.parts.norm_activation import NormActivation
from gaslayers.lean.fused.parts.slots import Slots
from gaslayers.lean.native.norm_call import is_even


@dataclasses.dataclass(frozen=True)
class Layer:
    """One layer of a dense block, or its transition.

    Args:
        in_channels: Channels of the features that it reads.
        front: Norm and activation of what it reads.
        branches: What makes its features, side by side in the order of their channels.
    """

    in_channels: int
    front: NormActivation
    branches: tuple[Branch, ...]

    @property
    def calls(self) -> list[BatchNormCall]:
        """The calls of all norms in it."""
        parts = [self.front, *(part for branch in self.branches for part in branch.following)]
        return [part.norm.call for part in parts if isinstance(part.norm, BatchNorm)]

    def wants(self, slots: Slots) -> bool:
        """Whether the gradient of any of its parameters is asked for."""
        parts: tuple[NormActivation | Branch, ...] = (self.front, *self.branches)
        return any(slots.wants(*part.parameters) for part in parts)

    def backward(
        self,
        grad: Tensor,
        read: Tensor,
        kept: list[Tensor | None],
        slots: Slots,
        moments: Tensor | None,
        *,
        wants_read: bool,
        passed: Tensor | None = None,
        layout: torch.memory_format | None = None,
    ) -> Tensor | None:
        """Gradient of its features -> gradient of what it read, with what ``passed`` it by.

        What its branches kept is taken from the end of the list. Sums are in autograd's order,
        the last branch first, whose first operand decides on the layout. ``layout`` is what
        operators need what it read to be in, where it is a slice.
        """
        by_kernels = self.front.runs_by_kernels(read, slots)
        # Under a gradient penalty the graph would hold the copy, too.
        if not by_kernels and layout is not None and not torch.is_grad_enabled():
            read = read.contiguous(memory_format=layout)
        activated = self._activated(read, slots, moments, by_kernels=by_kernels)
        wants_activated = wants_read or slots.wants(*self.front.parameters)
        total = passed if self.front.is_identity else None
        more: Tensor | None = None  # the last gradient, which kernels add to the others
        pieces: Sequence[Tensor] = (grad,)
        if len(self.branches) > 1:
            sizes = [branch.out_channels(slots.tensors) for branch in self.branches]
            pieces = grad.split_with_sizes(sizes, dim=1)
        for branch, piece in zip(reversed(self.branches), reversed(pieces), strict=True):
            own = kept[len(kept) - branch.kept_count :]
            del kept[len(kept) - branch.kept_count :]
            through = branch.backward(piece, activated, own, slots, wants_x=wants_activated)
            if through is None:
                continue
            is_last = branch is self.branches[0]
            if by_kernels and is_last and total is not None and is_even(through):
                more = through
            else:
                total = _add(total, through, overwrite=slots.may_overwrite and total is not passed)
            del through
        if total is None or self.front.is_identity:
            return passed if total is None else total
        if by_kernels:
            del activated
            return self.front.backward_by_kernels(
                total,
                read,
                slots,
                moments,
                wants_x=wants_read,
                more=more,
                passed=passed,
                overwrite=slots.may_overwrite,
            )
        total = self.front.backward_behind(total, activated, overwrite=slots.may_overwrite)
        del activated  # a map less while the norm's pass runs
        total = self.front.backward(
            total, read, slots, moments, wants_x=wants_read, overwrite=slots.may_overwrite
        )
        if total is None or passed is None:
            return passed if total is None else total
        return passed + total

    def _activated(
        self, read: Tensor, slots: Slots, moments: Tensor | None, *, by_kernels: bool
    ) -> Tensor:
        """What the branches read."""
        if not by_kernels:
            return self.front.forward(read, slots, moments)
        # Kernels find anew what the activation lets through; convolutions that are not trained
        # read no more than the shape of their input.
        if any(branch.reads(0, slots) for branch in self.branches):
            return self.front.forward_by_kernels(read, slots, moments)
        return torch.empty_like(read, memory_format=torch.channels_last)


def _add(total: Tensor | None, more: Tensor, *, overwrite: bool) -> Tensor:
    if total is None:
        return more
    return total.add_(more) if overwrite else total + more
