"""Convolutions in a row, and the backward pass that their inputs and inner outputs allow."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gaslayers.lean.dense_norm import NormActivation, measure
from gaslayers.lean.dense_slots import Slot, Slots


@dataclasses.dataclass(frozen=True)
class Convolution:
    """A `torch.nn.Conv2d` that pads with zeros and keeps height and width.

    Args:
        weight: The kernel.
        bias: Offset of each output channel.
        padding: Zeros at each end of height and width.
        dilation: Spacing of the kernel's cells.
        groups: Groups of the convolution.
        extra_padding: Zeros put at the bottom and right beforehand.
    """

    weight: int
    bias: Slot
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    extra_padding: int

    @property
    def parameters(self) -> tuple[Slot, ...]:
        """The slots whose gradients can be asked for."""
        return (self.weight, self.bias)

    def _operands(self, x: Tensor, slots: Slots) -> tuple[Tensor, Tensor, Tensor | None]:
        if self.extra_padding:
            x = F.pad(x, (0, self.extra_padding, 0, self.extra_padding))
        weight, bias = slots.tensors[self.weight], slots.get(self.bias)
        dtype = slots.dtype
        return x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)

    def forward(self, x: Tensor, slots: Slots) -> Tensor:
        """(N, C, H, W) -> (N, out_channels, H, W)."""
        x, weight, bias = self._operands(x, slots)
        return F.conv2d(x, weight, bias, 1, self.padding, self.dilation, self.groups)

    def backward(self, grad: Tensor, x: Tensor, slots: Slots, *, wants_x: bool) -> Tensor | None:
        """Gradient of the output -> gradient of the input; the parameters' go to their slots."""
        mask = [wants_x, slots.wants(self.weight), slots.wants(self.bias)]
        if not any(mask):
            return None
        padded, weight, bias = self._operands(x, slots)
        grad_x, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
            grad.to(slots.dtype),
            padded,
            weight,
            None if bias is None else list(bias.shape),
            [1, 1],
            list(self.padding),
            list(self.dilation),
            False,
            [0, 0],
            self.groups,
            mask,
        )
        slots.put(self.weight, grad_weight)
        slots.put(self.bias, grad_bias)
        if grad_x is not None and self.extra_padding:
            grad_x = F.pad(grad_x, (0, -self.extra_padding, 0, -self.extra_padding))
        return grad_x if grad_x is None else grad_x.to(x.dtype)


@dataclasses.dataclass(frozen=True)
class Branch:
    """Convolutions in a row, each two with a norm and activation between.

    Args:
        convolutions: At least one.
        between: One fewer.
        recompute: Run all but the last again in the backward pass rather than keep their outputs.
    """

    convolutions: tuple[Convolution, ...]
    between: tuple[NormActivation, ...]
    recompute: bool

    @property
    def parameters(self) -> tuple[Slot, ...]:
        """The slots whose gradients can be asked for."""
        parts: tuple[Convolution | NormActivation, ...] = (*self.convolutions, *self.between)
        return tuple(slot for part in parts for slot in part.parameters)

    @property
    def kept_count(self) -> int:
        """How many entries `forward` keeps for `backward`."""
        return 2 * len(self.between)

    def out_channels(self, slots: Slots) -> int:
        """Channels of the output."""
        return slots.tensors[self.convolutions[-1].weight].shape[0]

    def forward(self, x: Tensor, slots: Slots) -> tuple[Tensor, list[Tensor | None]]:
        """(N, C, H, W) -> (N, out_channels, H, W), and what `backward` needs of the way."""
        kept: list[Tensor | None] = []
        for convolution, following in zip(self.convolutions, self.between, strict=False):
            x = convolution.forward(x, slots)
            moments = None
            if following.batch_norm is not None:
                moments = measure(x, following.batch_norm.eps)
                following.batch_norm.track(moments)
            kept += [None if self.recompute else x, moments]
            x = following.forward(x, slots, moments)
        return self.convolutions[-1].forward(x, slots), kept

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
        # What each convolution reads and what it made of it, and whose gradients are wanted.
        read, wants_read = [x], [wants_x]
        made, wants_made = [], []
        for i, following in enumerate(self.between):
            inner, moments = kept[2 * i : 2 * i + 2]
            if inner is None or torch.is_grad_enabled():  # as a function of x
                inner = self.convolutions[i].forward(read[-1], slots)
            made.append(inner)
            read.append(following.forward(inner, slots, moments))
            wants_made.append(wants_read[-1] or slots.wants(*self.convolutions[i].parameters))
            wants_read.append(wants_made[-1] or slots.wants(*following.parameters))
        current: Tensor | None = grad
        for i in reversed(range(len(self.convolutions))):
            if current is not None and i < len(self.between):
                current = self.between[i].backward(
                    current, read[i + 1], made[i], slots, kept[2 * i + 1], wants_x=wants_made[i]
                )
            if current is None:
                return None
            current = self.convolutions[i].backward(current, read[i], slots, wants_x=wants_read[i])
        return current
