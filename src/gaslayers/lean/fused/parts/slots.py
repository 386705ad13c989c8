"""The tensors that a dense block's autograd function reads, each under a number of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from gaslayers.lean.batch_norm import BatchNormCall, count_at_once, count_batch
from gaslayers.lean.execution import is_batch
from gaslayers.lean.native.norm_choice import take
from gaslayers.lean.precision import cast

Slot: TypeAlias = int | None
"""Where a tensor stands among the function's arguments; None: there is no such tensor."""


class Slots:
    """Tensors by slot, and the gradients that a backward pass finds for them.

    Args:
        tensors: The tensors in the order of their slots.
        dtype: What convolutions compute in, under autocast another than the tensors'.
        x: A map of those that the function computes with.
        wanted: For each tensor, whether its gradient is asked for; empty: for none.
        grad: In a backward pass, the gradient that it starts from.
        calls: In a forward pass, those of the norms; they count the batch.
    """

    def __init__(
        self,
        tensors: Sequence[Tensor],
        dtype: torch.dtype,
        x: Tensor,
        wanted: Sequence[bool] = (),
        grad: Tensor | None = None,
        calls: Sequence[BatchNormCall] = (),
    ) -> None:
        is_plain = not torch.is_grad_enabled() and (grad is None or not is_batch(grad))
        self.may_overwrite = is_plain
        """Whether maps that nobody else has may be changed: no graph needs them."""
        running = [values for call in calls for values in (call.running_mean, call.running_var)]
        self.by_kernels = is_plain and x.dtype == dtype and take(x, [*tensors, *running])
        """Whether kernels of our own run, where a map suits them."""
        self._are_counted = count_at_once(calls)
        self.tensors = tensors
        self.dtype = dtype
        self._wanted = {slot for slot, is_wanted in enumerate(wanted) if is_wanted}
        self.gradients: list[Tensor | None] = [None] * len(tensors)

    def get(self, slot: Slot) -> Tensor | None:
        """The tensor of a slot, or None where there is none."""
        return None if slot is None else self.tensors[slot]

    def wants(self, *slots: Slot) -> bool:
        """Whether the gradient of any of these is asked for."""
        return not self._wanted.isdisjoint(slots)

    def begin(self, call: BatchNormCall) -> BatchNormCall:
        """The call of a norm, the batch counted."""
        return call if self._are_counted else count_batch(call)

    def put(self, slot: Slot, gradient: Tensor | None) -> None:
        """Keep the gradient of a slot, in the tensor's own dtype."""
        if slot is not None and gradient is not None:
            self.gradients[slot] = cast(gradient, self.tensors[slot].dtype)
