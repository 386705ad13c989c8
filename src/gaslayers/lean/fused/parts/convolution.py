"""A convolution by the slots of its tensors, or several of one input that run as one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from gaslayers.lean.convolution import ConvolutionGeometry, KnownConvolution
from gaslayers.lean.fused.inception.kernels import Kernel, join
from gaslayers.lean.fused.parts.slots import Slot, Slots
from gaslayers.lean.precision import cast


class KernelSlots(NamedTuple):
    """The kernel of a `torch.nn.Conv2d`.

    Args:
        weight: The weight.
        bias: Offset of each output channel.
        offset: Where its first cell lies among those of the largest kernel that it runs with.
    """

    weight: int
    bias: Slot
    offset: int = 0


@dataclasses.dataclass(frozen=True)
class Convolution:
    """A convolution that pads with zeros.

    Several kernels run as one: the smaller ones among zeros, the channels in order.

    Args:
        geometry: How it walks over its input: that of the largest kernel.
        kernels: One, or several of one group each.
    """

    geometry: ConvolutionGeometry
    kernels: tuple[KernelSlots, ...]

    @property
    def parameters(self) -> tuple[Slot, ...]:
        """The slots whose gradients can be asked for."""
        return tuple(slot for weight, bias, _ in self.kernels for slot in (weight, bias))

    def out_channels(self, tensors: Sequence[Tensor]) -> int:
        """Channels of the output."""
        return sum(tensors[weight].shape[0] for weight, _, _ in self.kernels)

    def wants_weight(self, slots: Slots) -> bool:
        """Whether the gradient of a weight is asked for, which reads the input."""
        return slots.wants(*(weight for weight, _, _ in self.kernels))

    def _kernel(self, slots: Slots) -> tuple[Tensor, Tensor | None]:
        """Weight and bias, in the dtype that convolutions compute in."""
        kernels = []
        for weight, bias, _ in self.kernels:
            offset = slots.get(bias)
            own = None if offset is None else cast(offset, slots.dtype)
            kernels.append(Kernel(cast(slots.tensors[weight], slots.dtype), own))
        if len(kernels) == 1:
            return kernels[0].weight, kernels[0].bias
        size = max(kernel.weight.shape[3] for kernel in kernels)
        offsets = [offset for _, _, offset in self.kernels]
        joined = join([k.placed(size, offset) for k, offset in zip(kernels, offsets, strict=True)])
        return joined.weight, joined.bias

    def _put(self, slots: Slots, grad_weight: Tensor | None, grad_bias: Tensor | None) -> None:
        """Bring the gradients of what `_kernel` returned to their slots."""
        if len(self.kernels) == 1:
            slots.put(self.kernels[0].weight, grad_weight)
            slots.put(self.kernels[0].bias, grad_bias)
            return
        start = 0
        for weight, bias, offset in self.kernels:
            channels, _, height, width = slots.tensors[weight].shape
            own, start = slice(start, start + channels), start + channels
            cells = slice(offset, offset + height), slice(offset, offset + width)
            if grad_weight is not None:
                slots.put(weight, grad_weight[own, :, cells[0], cells[1]])
            if grad_bias is not None:
                slots.put(bias, grad_bias[own])

    def _padded(self, x: Tensor, slots: Slots) -> Tensor:
        return cast(self.geometry.pad(x), slots.dtype)

    def forward(self, x: Tensor, slots: Slots) -> Tensor:
        """(N, C, H, W) -> (N, out_channels, H', W')."""
        return self.geometry.convolve(self._padded(x, slots), *self._kernel(slots))

    def backward(self, grad: Tensor, x: Tensor, slots: Slots, *, wants_x: bool) -> Tensor | None:
        """Gradient of the output -> gradient of the input; the parameters' go to their slots."""
        wants_bias = slots.wants(*(bias for _, bias, _ in self.kernels))
        mask = [wants_x, self.wants_weight(slots), wants_bias]
        if not any(mask):
            return None
        weight, _ = self._kernel(slots)
        grad_x, grad_weight, grad_bias = self.geometry.gradients(
            cast(grad, slots.dtype), self._padded(x, slots), weight, mask
        )
        self._put(slots, grad_weight, grad_bias)
        return grad_x if grad_x is None else cast(self.geometry.crop(grad_x, x.shape), x.dtype)

    def known(self, made: Tensor, x: Tensor, slots: Slots, slope: float) -> Tensor:
        """What `forward` and an activation made, which was kept, as a function of ``x``."""
        padded = self._padded(x, slots)
        return KnownConvolution.apply(self.geometry, slope, made, padded, *self._kernel(slots))
