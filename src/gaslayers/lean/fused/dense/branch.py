"""Convolutions in a row, and the backward pass that their inputs and inner outputs allow."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gaslayers.lean.fused.dense.convolution import Convolution
from gaslayers.lean.fused.dense.norm_activation import NormActivation
from gaslayers.lean.fused.dense.slots import Slot, Slots
from gaslayers.lean.native.norm_call import is_even
from gaslayers.lean.precision import cast


class _BackwardStep(NamedTuple):
    """One of the convolutions on the way back.

    Args:
        read: What it read.
        inner: What the norm behind it read, where that is needed.
        result: What the norm and activation behind it made of that, where that is read.
        by_kernels: Whether kernels run for these.
        wants_read: Whether the gradient of ``read`` is wanted.
        wants_inner: Whether that of ``inner`` is.
    """

    read: Tensor
    inner: Tensor | None
    result: Tensor | None
    by_kernels: bool
    wants_read: bool
    wants_inner: bool


@dataclasses.dataclass(frozen=True)
class Branch:
    """Convolutions in a row, each followed by a norm and an activation, or by neither.

    Args:
        convolutions: At least one.
        following: As many.
        recompute: Run the convolutions again in the backward pass rather than keep their outputs.
    """

    convolutions: tuple[Convolution, ...]
    following: tuple[NormActivation, ...]
    recompute: bool

    @property
    def parameters(self) -> tuple[Slot, ...]:
        """The slots whose gradients can be asked for."""
        parts: tuple[Convolution | NormActivation, ...] = (*self.convolutions, *self.following)
        return tuple(slot for part in parts for slot in part.parameters)

    @property
    def kept_count(self) -> int:
        """How many entries `forward` keeps for `backward`."""
        return 2 * len(self.convolutions)

    def _needs_output_of(self, index: int) -> bool:
        """Whether the backward pass reads what this convolution made."""
        is_last = index == len(self.convolutions) - 1
        return not (is_last and self.following[index].is_identity)

    def _reads(self, index: int, slots: Slots) -> bool:
        """Whether the backward pass reads what this convolution read."""
        again = self.recompute and self._needs_output_of(index)
        return again or self.convolutions[index].wants_weight(slots)

    def reads_input(self, slots: Slots) -> bool:
        """Whether the backward pass reads the branch's input, and not only its shape."""
        return self._reads(0, slots)

    def out_channels(self, tensors: Sequence[Tensor]) -> int:
        """Channels of the output."""
        return self.convolutions[-1].out_channels(tensors)

    def forward(self, x: Tensor, slots: Slots) -> tuple[Tensor, list[Tensor | None]]:
        """(N, C, H, W) -> (N, out_channels, H, W), and what `backward` needs of the way."""
        kept: list[Tensor | None] = []
        for i, (convolution, following) in enumerate(
            zip(self.convolutions, self.following, strict=True)
        ):
            made = convolution.forward(x, slots)
            norm_input, x, moments = following.run(made, slots, overwrite=True)
            needed = self._needs_output_of(i) and not self.recompute
            kept += [norm_input if needed else None, moments]
        return x, kept

    def backward(
        self,
        grad: Tensor,
        x: Tensor,
        kept: Sequence[Tensor | None],
        slots: Slots,
        *,
        wants_x: bool,
    ) -> Tensor | None:
        """Gradient of the output -> gradient of the input; the parameters' go to their slots."""
        steps = self._recall(grad, x, kept, slots, wants_x=wants_x)
        made = steps[-1].inner
        if made is not None:  # under autocast of another dtype than the features
            grad = cast(grad, made.dtype)
        for i, step in reversed(list(enumerate(steps))):
            through: Tensor | None = grad
            following, inner, moments = self.following[i], step.inner, kept[2 * i + 1]
            if inner is not None and (step.result is None or (step.by_kernels and is_even(grad))):
                through = following.backward_by_kernels(
                    grad,
                    inner,
                    slots,
                    moments,
                    wants_x=step.wants_inner,
                    # The gradient of what the last one made is the caller's.
                    overwrite=slots.may_overwrite and i + 1 < len(steps),
                )
            elif inner is not None and step.result is not None:
                through = following.backward(
                    grad, step.result, inner, slots, moments, wants_x=step.wants_inner
                )
            if through is not None:
                convolution = self.convolutions[i]
                through = convolution.backward(through, step.read, slots, wants_x=step.wants_read)
            if through is None:
                return None
            grad = through
        return grad

    def _recall(
        self, grad: Tensor, x: Tensor, kept: Sequence[Tensor | None], slots: Slots, *, wants_x: bool
    ) -> list[_BackwardStep]:
        """The convolutions in order, with what of their way forward is read on the way back."""
        steps: list[_BackwardStep] = []
        for i, (convolution, following) in enumerate(
            zip(self.convolutions, self.following, strict=True)
        ):
            inner, moments = kept[2 * i : 2 * i + 2]
            result: Tensor | None = None
            by_kernels = False
            if self._needs_output_of(i):
                if inner is None:
                    inner = following.norm_input(convolution.forward(x, slots))
                elif torch.is_grad_enabled():  # as a function of x
                    inner = convolution.known(inner, x, slots, following.slope_before)
                is_last = i + 1 == len(self.convolutions)
                is_read = not is_even(grad) if is_last else self._reads(i + 1, slots)
                by_kernels = following.runs_by_kernels(inner, slots)
                if not by_kernels:
                    result = following.forward(inner, slots, moments)
                elif is_read:
                    result = following.forward_by_kernels(inner, slots, moments)
            wants_inner = wants_x or slots.wants(*convolution.parameters)
            steps.append(_BackwardStep(x, inner, result, by_kernels, wants_x, wants_inner))
            wants_x = wants_inner or slots.wants(*following.parameters)
            if inner is not None:
                # In place of one that kernels do without: what it is read for is its shape.
                x = torch.empty_like(inner) if result is None else result
        return steps
