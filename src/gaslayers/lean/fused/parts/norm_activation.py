"""A norm and an activation, computed again where autograd would keep what they made."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from gaslayers.lean.activations import IDENTITY, activate, activation_backward
from gaslayers.lean.fused.parts.norm import BatchNorm, Scaling
from gaslayers.lean.fused.parts.slots import Slot, Slots
from gaslayers.lean.native import norm as native_norm
from gaslayers.lean.native.norm_call import is_dense, is_even, suits


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

    @property
    def _slopes(self) -> tuple[float, float]:
        """Those of the activations before and behind the norm."""
        return (self.slope, IDENTITY) if self.activation_first else (IDENTITY, self.slope)

    @property
    def slope_before(self) -> float:
        """That of the activation in front of the norm."""
        return self._slopes[0]

    @property
    def reads_result(self) -> bool:
        """Whether `backward` reads what `forward` made."""
        return self.slope != IDENTITY and not self.activation_first

    def runs_by_kernels(self, norm_input: Tensor, slots: Slots) -> bool:
        """Whether kernels of our own take this map, or slice of the channels of one."""
        return (
            slots.by_kernels
            and (isinstance(self.norm, Scaling) or self.batch_norm is not None)
            and suits(norm_input)
        )

    def norm_input(self, x: Tensor, *, overwrite: bool = False) -> Tensor:
        """What the norm reads: ``x``, or what the activation makes of it, in its memory if allowed.

        The backward pass reads no more than this of ``x``.
        """
        if not self.activation_first:
            return x
        return activate(x, self.slope, inplace=overwrite)

    def run(
        self, x: Tensor, slots: Slots, *, overwrite: bool = False
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """What the norm read, the result, and the batch's statistics for a norm that takes them.

        Running statistics move.

        Args:
            x: (N, C, H, W).
            slots: Holds the parameters.
            overwrite: Whether ``x`` is needed no longer.
        """
        norm = self.batch_norm
        before, behind = self._slopes
        if norm is not None and is_dense(x) and self.runs_by_kernels(x, slots):
            call = slots.begin(norm.call)
            return native_norm.run(
                x, call, slope_before=before, slope_behind=behind, overwrite=overwrite
            )
        norm_input = self.norm_input(x, overwrite=overwrite)
        if norm is None:
            return norm_input, self.forward(norm_input, slots, None), None
        normed, moments = norm.run(norm_input, slots)
        return norm_input, self._activate_normed(normed), moments

    def forward(self, norm_input: Tensor, slots: Slots, moments: Tensor | None) -> Tensor:
        """The result, by statistics that are known: (N, C, H, W) -> (N, C, H, W)."""
        if self.norm is None:
            return norm_input if self.activation_first else activate(norm_input, self.slope)
        if self.runs_by_kernels(norm_input, slots):
            return self.forward_by_kernels(norm_input, slots, moments)
        return self._activate_normed(self.norm.forward(norm_input, slots, moments))

    def forward_by_kernels(
        self, norm_input: Tensor, slots: Slots, moments: Tensor | None, *, tracks: bool = False
    ) -> Tensor:
        """The same, where `runs_by_kernels`.

        Args:
            norm_input: (N, C, H, W).
            slots: Holds the parameters.
            moments: The batch's statistics, for a norm that takes them.
            tracks: Whether running statistics move.

        Raises:
            TypeError: There is no norm.
        """
        norm = self._require_norm()
        tracked = self.batch_norm if tracks else None
        return native_norm.normalize(
            norm_input,
            moments,
            slots.get(norm.weight),
            slots.get(norm.bias),
            self._slopes[1],
            tracking=None if tracked is None else slots.begin(tracked.call),
        )

    def _require_norm(self) -> BatchNorm | Scaling:
        if self.norm is None:
            raise TypeError("NormActivation: kernels are for norms, got norm=None.")
        return self.norm

    def _activate_normed(self, normed: Tensor) -> Tensor:
        """Activate the norm's own output, in its memory."""
        return normed if self.activation_first else activate(normed, self.slope, inplace=True)

    def backward_behind(self, grad: Tensor, result: Tensor, *, overwrite: bool) -> Tensor:
        """Gradient of the result -> of what is in front of an activation behind the norm.

        It is apart from `backward`, so that its caller can free the result in between.

        Args:
            grad: (N, C, H, W).
            result: What `forward` made; read where `reads_result`.
            overwrite: Whether the outcome may take the memory of ``grad``.
        """
        if not self.reads_result:
            return grad
        return activation_backward(grad, result, self.slope, overwrite=overwrite)

    def backward(
        self,
        grad: Tensor,
        norm_input: Tensor,
        slots: Slots,
        moments: Tensor | None,
        *,
        wants_x: bool,
        overwrite: bool = False,
    ) -> Tensor | None:
        """Gradient from `backward_behind` -> of the input; the parameters' go to their slots.

        Args:
            grad: (N, C, H, W).
            norm_input: What it read.
            slots: Holds the parameters, and takes their gradients.
            moments: The batch's statistics, for a norm that takes them.
            wants_x: Whether the input's gradient is asked for.
            overwrite: Whether that may take the memory of ``grad``.
        """
        through: Tensor | None = grad
        if self.norm is not None:
            through = self.norm.backward(grad, norm_input, slots, moments, wants_x=wants_x)
            overwrite = slots.may_overwrite
        if through is None or not self.activation_first:
            return through
        return activation_backward(through, norm_input, self.slope, overwrite=overwrite)

    def backward_by_kernels(
        self,
        grad: Tensor,
        norm_input: Tensor,
        slots: Slots,
        moments: Tensor | None,
        *,
        wants_x: bool,
        more: Tensor | None = None,
        passed: Tensor | None = None,
        overwrite: bool = False,
    ) -> Tensor | None:
        """The same, where `runs_by_kernels`.

        Args:
            grad: As for `backward`.
            norm_input: Likewise.
            slots: Likewise.
            moments: Likewise.
            wants_x: Likewise.
            more: Added to ``grad``; even.
            passed: Added to the gradient of the input.
            overwrite: Whether that may take the memory of ``grad``.

        Raises:
            TypeError: There is no norm.
        """
        norm = self._require_norm()
        if not is_even(grad):
            grad = grad.contiguous(memory_format=torch.channels_last)
        before, behind = self._slopes
        # To another map the operator adds, which decides on the layout of the sum.
        added = passed if passed is not None and is_even(passed) else None
        through, grad_weight, grad_bias = native_norm.normalize_backward(
            grad,
            norm_input,
            moments,
            slots.get(norm.weight),
            slots.get(norm.bias),
            slope_before=before,
            slope_behind=behind,
            wanted=(wants_x, slots.wants(norm.weight), slots.wants(norm.bias)),
            more=more,
            passed=added,
            overwrite=overwrite,
        )
        slots.put(norm.weight, grad_weight)
        slots.put(norm.bias, grad_bias)
        if through is None or passed is None:
            return passed if through is None else through
        return through if added is not None else passed + through
