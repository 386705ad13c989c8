"""Convolutions in a row, and the backward pass that their inputs and inner outputs allow."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from gaslayers.lean.dense.convolution import Convolution
from gaslayers.lean.dense.norm_activation import NormActivation
from gaslayers.lean.dense.slots import Slot, Slots
from gaslayers.lean.native.norm_call import is_even


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
        # What each convolution reads, what its norm reads of what it made, and whose gradients are
        # wanted.
        read, wants_read = [x], [wants_x]
        made: list[Tensor | None] = []
        results: list[Tensor | None] = []
        wants_made: list[bool] = []
        for i, (convolution, following) in enumerate(
            zip(self.convolutions, self.following, strict=True)
        ):
            inner, moments = kept[2 * i : 2 * i + 2]
            result: Tensor | None = None
            if self._needs_output_of(i):
                if inner is None or torch.is_grad_enabled():  # as a function of x
                    inner = following.norm_input(convolution.forward(read[-1], slots))
                is_last = i + 1 == len(self.convolutions)
                is_read = not is_even(grad) if is_last else self._reads(i + 1, slots)
                if is_read or not following.runs_by_kernels(inner, slots):
                    result = following.forward(inner, slots, moments)
                # In place of one that kernels do without: what it is read for is its shape.
                read.append(torch.empty_like(inner) if result is None else result)
            results.append(result)
            made.append(inner)
            wants_made.append(wants_read[-1] or slots.wants(*convolution.parameters))
            wants_read.append(wants_made[-1] or slots.wants(*following.parameters))
        for i in reversed(range(len(self.convolutions))):
            through: Tensor | None = grad
            inner = made[i]
            if inner is not None:
                through = self.following[i].backward(
                    grad, results[i], inner, slots, kept[2 * i + 1], wants_x=wants_made[i]
                )
            if through is not None:
                convolution = self.convolutions[i]
                through = convolution.backward(through, read[i], slots, wants_x=wants_read[i])
            if through is None:
                return None
            grad = through
        return grad
