"""A norm and an activation, computed again where autograd would keep what they made."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from gaslayers.lean.activations import IDENTITY, activate
from gaslayers.lean.dense_norm import BatchNorm, Scaling
from gaslayers.lean.dense_slots import Slot, Slots


@dataclasses.dataclass(frozen=True)
class NormActivation:
    """A norm, or none, and an activation of a known slope below zero.

    Args:
        norm: The norm.
        slope: The activation's slope.
        activation_first: Whether the norm reads what the activation made.
    """

    norm: BatchNorm | Scaling | None
    slope: float
    activation_first: bool = False

    @property
    def parameters(self) -> tuple[Slot, ...]:
        """The slots whose gradients can be asked for."""
        return () if self.norm is None else self.norm.parameters

    @property
    def is_identity(self) -> bool:
        """Whether there is neither."""
        return self.norm is None and self.slope == IDENTITY

    @property
    def batch_norm(self) -> BatchNorm | None:
        """The norm, where it takes the batch's statistics."""
        return self.norm if isinstance(self.norm, BatchNorm) and self.norm.reads_batch else None

    def norm_input(self, x: Tensor, *, overwrite: bool = False) -> Tensor:
        """What the norm reads: ``x``, or what the activation makes of it, in its memory if allowed.

        The backward pass reads no more than this of ``x``.
        """
        if not self.activation_first:
            return x
        return activate(x, self.slope, inplace=overwrite)

    def run(self, norm_input: Tensor, slots: Slots) -> tuple[Tensor, Tensor | None]:
        """The result, and the batch's statistics for a norm that takes them.

        Running statistics move. Shape: (N, C, H, W) -> (N, C, H, W).
        """
        if self.batch_norm is None:
            return self.forward(norm_input, slots, None), None
        normed, moments = self.batch_norm.run(norm_input, slots)
        return self._activate_normed(normed), moments

    def forward(self, norm_input: Tensor, slots: Slots, moments: Tensor | None) -> Tensor:
        """The result, by statistics that are known: (N, C, H, W) -> (N, C, H, W)."""
        if self.norm is None:
            return norm_input if self.activation_first else activate(norm_input, self.slope)
        return self._activate_normed(self.norm.forward(norm_input, slots, moments))

    def _activate_normed(self, normed: Tensor) -> Tensor:
        """Activate the norm's own output, in its memory."""
        return normed if self.activation_first else activate(normed, self.slope, inplace=True)

    def backward(
        self,
        grad: Tensor,
        result: Tensor,
        norm_input: Tensor,
        slots: Slots,
        moments: Tensor | None,
        *,
        wants_x: bool,
    ) -> Tensor | None:
        """Gradient of the result -> gradient of the input; the parameters' go to their slots."""
        if self.norm is None:
            return self.activation_backward(grad, result)
        if not self.activation_first:
            grad = self.activation_backward(grad, result)
        through = self.norm.backward(grad, norm_input, slots, moments, wants_x=wants_x)
        if through is None or not self.activation_first:
            return through
        return self.activation_backward(through, norm_input)

    def activation_backward(
        self, grad: Tensor, activated: Tensor, *, overwrite: bool = False
    ) -> Tensor:
        """Gradient of the activation's output -> of its input, in the same memory if allowed."""
        if self.slope == IDENTITY:
            return grad
        if self.slope == 0.0:
            if overwrite:
                return torch.ops.aten.threshold_backward(grad, activated, 0, grad_input=grad)
            return torch.ops.aten.threshold_backward(grad, activated, 0)
        if overwrite:
            return torch.ops.aten.leaky_relu_backward(
                grad, activated, self.slope, True, grad_input=grad
            )
        return torch.ops.aten.leaky_relu_backward(grad, activated, self.slope, True)
