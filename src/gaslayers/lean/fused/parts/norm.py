"""Norms within a dense block, by statistics that are known or by the module's own call.

A batch norm's statistics are those of single channels. All layers of a dense block that read a
channel share them, and they are measured once, when the channel is written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from gaslayers.lean.batch_norm import BatchNormCall, norm_backward
from gaslayers.lean.fused.parts.slots import Slot, Slots
from gaslayers.lean.layout import channels_vary_fastest, in_told_strides
from gaslayers.lean.native import norm as native_norm
from gaslayers.lean.native.norm_call import suits
from gaslayers.lean.precision import cast


def write_and_measure(x: Tensor, place: Tensor, moments: Tensor, eps: float, slots: Slots) -> None:
    """Copy ``x`` to its place, and write each channel's moments.

    Where no kernel of ours does it, the moments come from the operator that the module would call,
    so that they have its very bits.

    Args:
        x: (N, C, H, W) with more than one value a channel.
        place: Written, as ``x``.
        moments: Written: (3, C), mean, inverse standard deviation and unbiased variance.
        eps: Added to the variance.
        slots: Tells whether kernels run.
    """
    if slots.by_kernels and suits(x) and suits(place):
        native_norm.measure(x, moments, eps, to=place)
        return
    x = cast(x, place.dtype)
    place.copy_(x)
    mean, variance = moments.new_zeros((2, x.shape[1])).unbind()
    # With a momentum of 1 the running statistics are the batch's.
    _, mean, inverse_std = torch.native_batch_norm(x, None, None, mean, variance, True, 1.0, eps)
    moments.copy_(torch.stack([mean, inverse_std, variance]))


@dataclasses.dataclass(frozen=True)
class BatchNorm:
    """A `torch.nn.BatchNorm2d`.

    Args:
        call: What the module would call, for its running statistics.
        weight: Scale of each channel.
        bias: Offset of each channel.
        mean: Running mean, where it takes the place of the batch's.
        variance: Running variance, likewise.
    """

    call: BatchNormCall
    weight: Slot
    bias: Slot
    mean: Slot
    variance: Slot

    @property
    def eps(self) -> float:
        """Added to the variance."""
        return self.call.eps

    @property
    def reads_batch(self) -> bool:
        """Whether the statistics are the batch's."""
        return self.mean is None

    @property
    def parameters(self) -> tuple[Slot, ...]:
        """The slots whose gradients can be asked for."""
        return (self.weight, self.bias)

    def run(self, x: Tensor, slots: Slots) -> tuple[Tensor, Tensor]:
        """The module's own call: the normalised batch, and what `forward` takes as its moments."""
        self.call.check_sizes(x.shape[1])
        call = slots.begin(self.call)
        normed, mean, inverse_std = torch.native_batch_norm(
            x,
            slots.get(self.weight),
            slots.get(self.bias),
            call.running_mean,
            call.running_var,
            True,
            call.momentum,
            self.eps,
        )
        return normed, torch.stack([mean, inverse_std])

    def _mean_and_inverse_std(self, slots: Slots, moments: Tensor | None) -> tuple[Tensor, Tensor]:
        mean, variance = slots.get(self.mean), slots.get(self.variance)
        if mean is not None and variance is not None:
            return mean, (variance + self.eps).rsqrt()
        if moments is None:
            raise RuntimeError("BatchNorm: neither running nor batch statistics are there.")
        return moments[0], moments[1]

    def forward(self, x: Tensor, slots: Slots, moments: Tensor | None) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W), new memory."""
        weight, bias = slots.get(self.weight), slots.get(self.bias)
        if torch.is_grad_enabled():  # the statistics are functions of x, too
            mean, variance = slots.get(self.mean), slots.get(self.variance)
            x = in_told_strides(x)  # for the backward pass of this operator, too
            return F.batch_norm(x, mean, variance, weight, bias, self.reads_batch, 0.0, self.eps)
        self.call.check_sizes(x.shape[1])
        mean, scale = self._mean_and_inverse_std(slots, moments)
        if weight is not None:
            scale = scale * weight
        shift = torch.zeros_like(mean) if bias is None else bias
        shift = torch.addcmul(shift, mean, scale, value=-1)
        return _scale_and_shift(x, scale, shift)

    def backward(
        self, grad: Tensor, x: Tensor, slots: Slots, moments: Tensor | None, *, wants_x: bool
    ) -> Tensor | None:
        """Gradient of the output -> gradient of the input; the parameters' go to their slots."""
        mask = [wants_x, slots.wants(self.weight), slots.wants(self.bias)]
        if not any(mask):
            return None
        mean, inverse_std = None, None
        if self.reads_batch and moments is not None:
            mean, inverse_std = moments[0], moments[1]
        grad_x, grad_weight, grad_bias = norm_backward(
            grad,
            x,
            slots.get(self.weight),
            slots.get(self.mean),
            slots.get(self.variance),
            mean,
            inverse_std,
            self.reads_batch,
            self.eps,
            mask,
        )
        slots.put(self.weight, grad_weight)
        slots.put(self.bias, grad_bias)
        return grad_x


def track(norms: Iterable[BatchNorm], moments: Tensor, slots: Slots) -> None:
    """Move the running statistics as the modules do, once a forward pass.

    Args:
        norms: Each reads the first of the channels, as many as it has.
        moments: Of all channels, as from `write_and_measure`.
        slots: Tells how the norms are called.
    """
    mean, _, variance = moments
    by_momentum: dict[float, tuple[list[Tensor], list[Tensor]]] = {}
    for norm in norms:
        call = slots.begin(norm.call)
        if call.training and call.running_mean is not None and call.running_var is not None:
            means, variances = by_momentum.setdefault(call.momentum, ([], []))
            # The same memory, but the change is not counted: autograd keeps these tensors, and
            # PyTorch's norm, too, moves them without a count.
            means.append(call.running_mean.data)
            variances.append(call.running_var.data)
    for momentum, (means, variances) in by_momentum.items():
        new_means = [mean[: len(own)] for own in means]
        new_variances = [variance[: len(own)] for own in variances]
        # Each in the order of operations of PyTorch's kernel.
        torch._foreach_mul_([*means, *variances], 1 - momentum)
        torch._foreach_add_(means, torch._foreach_mul(new_means, momentum))
        torch._foreach_add_(variances, new_variances, alpha=momentum)


def _scale_and_shift(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Each channel times its scale plus its shift, with the bits of PyTorch's batch norm."""
    if x.device.type == "cpu" and x.dtype == scale.dtype and not channels_vary_fastest(x):
        # Where channels vary slowest, spreading a value a channel over a map by an elementwise
        # operator takes several times as long as a copy and this.
        none, one = torch.zeros_like(scale), torch.ones_like(scale)
        normed, _, _ = torch.native_batch_norm(
            x.contiguous(), scale, shift, none, one, False, 0.0, 0.0
        )
        return normed
    # One pass over a slice of the buffer.
    return cast(torch.addcmul(shift.view(1, -1, 1, 1), x, scale.view(1, -1, 1, 1)), x.dtype)


@dataclasses.dataclass(frozen=True)
class Scaling:
    """A constant for each channel, in place of a norm: of a module with a `channel_scale`."""

    scale: int

    bias: ClassVar[Slot] = None
    parameters: ClassVar[tuple[Slot, ...]] = ()
    reads_batch: ClassVar[bool] = False

    @property
    def weight(self) -> Slot:
        """The scale, as the weight of a norm that does nothing else."""
        return self.scale

    def forward(self, x: Tensor, slots: Slots, _moments: Tensor | None) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W), new memory."""
        return x * slots.tensors[self.scale].view(1, -1, 1, 1)

    def backward(
        self, grad: Tensor, x: Tensor, slots: Slots, _moments: Tensor | None, *, wants_x: bool
    ) -> Tensor | None:
        """Gradient of the output -> gradient of the input."""
        if not wants_x:
            return None
        return cast(grad * slots.tensors[self.scale].view(1, -1, 1, 1), x.dtype)
