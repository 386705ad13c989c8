"""Activation and max pooling, and their gradient from codes of a byte a cell or less.

The plain pair keeps the activation's output (4 bytes a value), and max pooling its input and an
8-byte index a cell. What the backward pass needs of them is, a pooled cell, which value was the
largest and whether the activation let it through.
"""

from __future__ import annotations

import abc
import dataclasses

import torch
from torch import Tensor

from gaslayers.lean.activations import activation_backward
from gaslayers.lean.execution import is_batch


@dataclasses.dataclass(frozen=True)
class CodedPool(abc.ABC):
    """Activation and max pooling of one input; windows do not overlap.

    Args:
        slope: The activation's slope below zero.
        kernel_size: Height and width of a window.
        ceil_mode: Whether a last window may reach over the edge.
        shape: Of the input.
        layout: The input's memory format.
    """

    slope: float
    kernel_size: int
    ceil_mode: bool
    shape: torch.Size
    layout: torch.memory_format

    @abc.abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Activate and pool; return the pooled map and what `backward` takes.

        Shape:
            - x: (N, C, H, W).
            - Output: (N, C, H / k, W / k), rounded up in ceil mode.
        """

    def backward(self, grad: Tensor, kept: tuple[Tensor, ...]) -> Tensor:
        """The gradient before activation and pooling, from what `forward` kept.

        It comes in the memory format of the pooling's input, as from PyTorch's operator, whatever
        that of ``grad`` is; later kernels would else run in another one and round otherwise.

        Shape:
            - grad: (N, C, H / k, W / k).
            - Output: (N, C, H, W).
        """
        if is_batch(grad):
            return self._unpool(grad, kept)
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self._unpool(grad, kept).contiguous(memory_format=self.layout)
        return self._unpool_fast(grad, kept)

    def _unpool(self, grad: Tensor, kept: tuple[Tensor, ...]) -> Tensor:
        """By operators that can be differentiated, compiled and given a batch."""
        indices, positive = self._find_places(kept)
        grad = grad + 0.0  # as where a gradient is added to zeros: -0.0 becomes 0.0
        if positive is not None:
            grad = activation_backward(grad, positive, self.slope)
        # No two windows share a value. The operator that is made for this has no version for
        # `torch.use_deterministic_algorithms`.
        count, channels, height, width = self.shape
        spread = grad.new_zeros((count, channels, height * width))
        line = (count, channels, grad.shape[2] * grad.shape[3])
        return spread.scatter(2, indices.reshape(line), grad.reshape(line)).reshape(self.shape)

    @abc.abstractmethod
    def _find_places(self, kept: tuple[Tensor, ...]) -> tuple[Tensor, Tensor | None]:
        """The places within a plane, int64, and what is zero where there was no sign."""

    @abc.abstractmethod
    def _unpool_fast(self, grad: Tensor, kept: tuple[Tensor, ...]) -> Tensor:
        """By whatever is fastest."""
