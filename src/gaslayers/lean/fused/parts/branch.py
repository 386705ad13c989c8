"""Convolutions in a row, and the backward pass that their inputs and inner outputs allow."""

from __future__ import annotations

import dataclasses
import itertools
import operator
from collections.abc import Sequence

import torch
from torch import Tensor

from gaslayers.lean.fused.parts.convolution import Convolution
from gaslayers.lean.fused.parts.norm_activation import NormActivation
from gaslayers.lean.fused.parts.slots import Slot, Slots
from gaslayers.lean.native.norm_call import is_even
from gaslayers.lean.precision import cast


@dataclasses.dataclass(frozen=True)
class Branch:
    """Convolutions in a row, each followed by a norm and an activation, or by neither.

    Args:
        convolutions: At least one.
        following: As many.
        keep: For each, whether its output is kept; else it runs again in the backward pass.
    """

    convolutions: tuple[Convolution, ...]
    following: tuple[NormActivation, ...]
    keep: tuple[bool, ...]

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
        """Whether the backward pass may read what this convolution made."""
        is_last = index == len(self.convolutions) - 1
        return not (is_last and self.following[index].is_identity)

    def reads(self, index: int, slots: Slots) -> bool:
        """Whether the backward pass reads what this convolution read, and not only its shape."""
        again = self._needs_output_of(index) and not self.keep[index]
        return again or self.convolutions[index].wants_weight(slots)

    def out_channels(self, tensors: Sequence[Tensor]) -> int:
        """Channels of the output."""
        return self.convolutions[-1].out_channels(tensors)

    def forward(self, x: Tensor, slots: Slots) -> tuple[Tensor, list[Tensor | None]]:
        """(N, C, H, W) -> (N, out_channels, H', W'), and what `backward` needs of the way."""
        kept: list[Tensor | None] = []
        for i, (convolution, following) in enumerate(
            zip(self.convolutions, self.following, strict=True)
        ):
            made = convolution.forward(x, slots)
            norm_input, x, moments = following.run(made, slots, overwrite=True)
            kept += [norm_input if self.keep[i] and self._needs_output_of(i) else None, moments]
            del made, norm_input  # before the next convolution makes another map
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
        recalled = _Recalled(self, x, kept, slots)
        pairs = zip(self.convolutions, self.following, strict=True)
        # Whether there is a gradient of what a convolution reads: of the input, or in front of it.
        wants = itertools.accumulate(
            (slots.wants(*one.parameters, *two.parameters) for one, two in pairs),
            operator.or_,
            initial=wants_x,
        )
        steps = [*enumerate(itertools.pairwise(wants))]
        for i, (wants_read, wants_any) in reversed(steps):
            if not wants_any:
                return None
            convolution, following = self.convolutions[i], self.following[i]
            through: Tensor | None = grad
            if not following.is_identity:
                through = self._backward_to_inner(
                    i,
                    grad,
                    recalled,
                    wants_inner=wants_read or slots.wants(*convolution.parameters),
                )
            recalled.forget(i)  # before the convolution's pass, which may make as large a map
            if through is not None:
                read = recalled.read_by(i)
                through = convolution.backward(through, read, slots, wants_x=wants_read)
                del read
            if through is None:
                return None
            grad = through
        return grad

    def received(self, grad: Tensor, inner: Tensor) -> Tensor:
        """The gradient of the output, as it is read.

        Args:
            grad: As it came.
            inner: What the last convolution made.
        """
        # Under autocast it is of another dtype than the features.
        return cast(grad, inner.dtype)

    def _backward_to_inner(
        self, index: int, grad: Tensor, recalled: _Recalled, *, wants_inner: bool
    ) -> Tensor | None:
        """The gradient of what a convolution made."""
        following, slots = self.following[index], recalled.slots
        inner, moments = recalled.inner_of(index), recalled.moments[index]
        is_last = index + 1 == len(self.convolutions)
        if is_last:
            grad = self.received(grad, inner)
        # The gradient of what the last one made is the caller's.
        overwrite = slots.may_overwrite and not is_last
        if is_even(grad) and following.runs_by_kernels(inner, slots):
            recalled.forget_result(index)
            return following.backward_by_kernels(
                grad, inner, slots, moments, wants_x=wants_inner, overwrite=overwrite
            )
        if following.reads_result:
            result = recalled.input_of(index + 1)
            grad = following.backward_behind(grad, result, overwrite=overwrite)
            del result
        recalled.forget_result(index)  # a map less while the norm's pass runs
        return following.backward(
            grad, inner, slots, moments, wants_x=wants_inner, overwrite=overwrite
        )


class _Recalled:
    """What the convolutions read and made, kept or computed again when it is first asked for.

    Args:
        branch: The convolutions.
        x: What the first one reads.
        kept: As from `Branch.forward`.
        slots: Holds the parameters.
    """

    def __init__(
        self, branch: Branch, x: Tensor, kept: Sequence[Tensor | None], slots: Slots
    ) -> None:
        self._branch = branch
        self._kept = kept[::2]
        self._inner: list[Tensor | None] = [None] * len(self._kept)
        self._inputs: list[Tensor | None] = [x] + [None] * len(self._kept)
        self.moments = kept[1::2]
        self.slots = slots

    def inner_of(self, index: int) -> Tensor:
        """What the norm behind a convolution read."""
        found = self._inner[index]
        if found is None:
            convolution, following = self._branch.convolutions[index], self._branch.following[index]
            found = self._kept[index]
            if found is None:
                made = convolution.forward(self.input_of(index), self.slots)
                found = following.norm_input(made, overwrite=self.slots.may_overwrite)
            elif torch.is_grad_enabled():  # as a function of what was read
                read = self.input_of(index)
                found = convolution.known(found, read, self.slots, following.slope_before)
            self._inner[index] = found
        return found

    def input_of(self, index: int) -> Tensor:
        """What a convolution read; behind the last one, the output."""
        found = self._inputs[index]
        if found is None:
            inner, moments = self.inner_of(index - 1), self.moments[index - 1]
            found = self._branch.following[index - 1].forward(inner, self.slots, moments)
            self._inputs[index] = found
        return found

    def read_by(self, index: int) -> Tensor:
        """The same, or memory of its shape where no more than that is read."""
        if index == 0 or self._branch.reads(index, self.slots) or torch.is_grad_enabled():
            return self.input_of(index)
        return torch.empty_like(self.inner_of(index - 1))

    def forget_result(self, index: int) -> None:
        """Free what norm and activation made of a convolution's output."""
        self._inputs[index + 1] = None

    def forget(self, index: int) -> None:
        """Free what a convolution made, and what was made of that."""
        self._inner[index] = None
        self.forget_result(index)
