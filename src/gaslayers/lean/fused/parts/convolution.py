"""The convolutions of a dense layer, by the slots of their tensors."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence

from torch import Tensor

from gaslayers.lean.convolution import ConvolutionGeometry, KnownConvolution
from gaslayers.lean.fused.inception.kernels import Kernel, join
from gaslayers.lean.fused.parts.slots import Slot, Slots
from gaslayers.lean.precision import cast


@dataclasses.dataclass(frozen=True)
class Convolution(abc.ABC):
    """A convolution that pads with zeros.

    Args:
        geometry: How it walks over its input.
    """

    geometry: ConvolutionGeometry

    @property
    @abc.abstractmethod
    def parameters(self) -> tuple[Slot, ...]:
        """The slots whose gradients can be asked for."""

    @abc.abstractmethod
    def out_channels(self, tensors: Sequence[Tensor]) -> int:
        """Channels of the output."""

    @abc.abstractmethod
    def wants_weight(self, slots: Slots) -> bool:
        """Whether the gradient of a weight is asked for, which reads the input."""

    @abc.abstractmethod
    def _wants_bias(self, slots: Slots) -> bool:
        """Whether that of a bias is."""

    @abc.abstractmethod
    def _kernel(self, slots: Slots) -> tuple[Tensor, Tensor | None]:
        """Weight and bias, in the dtype that convolutions compute in."""

    @abc.abstractmethod
    def _put(self, slots: Slots, grad_weight: Tensor | None, grad_bias: Tensor | None) -> None:
        """Bring the gradients of what `_kernel` returned to their slots."""

    def _padded(self, x: Tensor, slots: Slots) -> Tensor:
        return cast(self.geometry.pad(x), slots.dtype)

    def forward(self, x: Tensor, slots: Slots) -> Tensor:
        """(N, C, H, W) -> (N, out_channels, H', W')."""
        return self.geometry.convolve(self._padded(x, slots), *self._kernel(slots))

    def backward(self, grad: Tensor, x: Tensor, slots: Slots, *, wants_x: bool) -> Tensor | None:
        """Gradient of the output -> gradient of the input; the parameters' go to their slots."""
        mask = [wants_x, self.wants_weight(slots), self._wants_bias(slots)]
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


@dataclasses.dataclass(frozen=True)
class LoneConvolution(Convolution):
    """A `torch.nn.Conv2d`.

    Args:
        geometry: As for `Convolution`.
        weight: The kernel.
        bias: Offset of each output channel.
    """

    weight: int
    bias: Slot

    @property
    def parameters(self) -> tuple[Slot, ...]:
        """As for `Convolution`."""
        return (self.weight, self.bias)

    def out_channels(self, tensors: Sequence[Tensor]) -> int:
        """As for `Convolution`."""
        return tensors[self.weight].shape[0]

    def wants_weight(self, slots: Slots) -> bool:
        """As for `Convolution`."""
        return slots.wants(self.weight)

    def _wants_bias(self, slots: Slots) -> bool:
        return slots.wants(self.bias)

    def _kernel(self, slots: Slots) -> tuple[Tensor, Tensor | None]:
        weight, bias, dtype = slots.tensors[self.weight], slots.get(self.bias), slots.dtype
        return cast(weight, dtype), None if bias is None else cast(bias, dtype)

    def _put(self, slots: Slots, grad_weight: Tensor | None, grad_bias: Tensor | None) -> None:
        slots.put(self.weight, grad_weight)
        slots.put(self.bias, grad_bias)


@dataclasses.dataclass(frozen=True)
class JoinedConvolution(Convolution):
    """Convolutions of one input as one: the smaller kernels among zeros, the channels in order.

    Args:
        geometry: As for `Convolution`: that of the largest kernel.
        parts: The convolutions, of one group each.
        offsets: Where the first cell of each lies among those of the largest.
    """

    parts: tuple[LoneConvolution, ...]
    offsets: tuple[int, ...]

    @property
    def parameters(self) -> tuple[Slot, ...]:
        """As for `Convolution`."""
        return tuple(slot for part in self.parts for slot in part.parameters)

    def out_channels(self, tensors: Sequence[Tensor]) -> int:
        """As for `Convolution`."""
        return sum(part.out_channels(tensors) for part in self.parts)

    def wants_weight(self, slots: Slots) -> bool:
        """As for `Convolution`."""
        return slots.wants(*(part.weight for part in self.parts))

    def _wants_bias(self, slots: Slots) -> bool:
        return slots.wants(*(part.bias for part in self.parts))

    def _kernel(self, slots: Slots) -> tuple[Tensor, Tensor | None]:
        kernels = [Kernel(*part._kernel(slots)) for part in self.parts]
        size = max(kernel.weight.shape[3] for kernel in kernels)
        placed = [
            kernel.placed(size, offset)
            for kernel, offset in zip(kernels, self.offsets, strict=True)
        ]
        weight, bias, _ = join(placed)
        return weight, bias

    def _put(self, slots: Slots, grad_weight: Tensor | None, grad_bias: Tensor | None) -> None:
        start = 0
        for part, offset in zip(self.parts, self.offsets, strict=True):
            channels, _, height, width = slots.tensors[part.weight].shape
            own, start = slice(start, start + channels), start + channels
            cells = slice(offset, offset + height), slice(offset, offset + width)
            if grad_weight is not None:
                slots.put(part.weight, grad_weight[own, :, cells[0], cells[1]])
            if grad_bias is not None:
                slots.put(part.bias, grad_bias[own])
