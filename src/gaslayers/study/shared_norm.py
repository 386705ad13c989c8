"""Batch norm over the batch of all processes of a run, on any device and to any order."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

_OWNER = "SharedBatchNorm"


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all processes. Its gradient is the sum of their gradients."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        """Any shape -> the same."""
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_ctx: Any, *grads: Tensor) -> Tensor:
        """The gradient of the output -> that of the input."""
        total: Tensor = _Sum.apply(grads[0])
        return total


class SharedBatchNorm(_BatchNorm):
    """A batch norm whose statistics are those of all processes' rows, with another's parameters.

    Args:
        norm: The batch norm in whose place it is. Its parameters and buffers are taken, not copied.

    Shape:
        - Input: (N, C, ...), with the same N in every process.
        - Output: the same.

    Raises:
        ValueError: The norm has no running statistics or no momentum.

    Note:
        Differs from `torch.nn.SyncBatchNorm`: that one runs on CUDA alone and has no double
        backward, which penalties take. This one is PyTorch's operators and a sum over processes,
        twice in a forward pass, so it takes more passes over a map. Without any other process it is
        ``norm`` to rounding.
    """

    def __init__(self, norm: _BatchNorm) -> None:
        if norm.running_mean is None or norm.momentum is None or norm.weight is None:
            raise ValueError(
                f"{_OWNER}: `norm` must have running statistics, a momentum, weights and biases, "
                f"got {norm}."
            )
        super().__init__(norm.num_features)
        self.__dict__.update(vars(norm))  # parameters, buffers, mode and hooks
        self.is_alone = False

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002  (PyTorch's name)
        if input.dim() < 2:
            raise ValueError(f"{_OWNER}: expected input of shape (N, C, ...), got {input.shape}.")

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) -> the same shape."""
        if self.is_alone or not self.training:
            return super().forward(x)
        self._check_input_dim(x)
        others = [axis for axis in range(x.dim()) if axis != 1]
        broadcast = [-1 if axis == 1 else 1 for axis in range(x.dim())]
        precise = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        processes = dist.get_world_size()
        # In two passes: the square of a mean may be larger than the variance.
        mean = _Sum.apply(precise.mean(others)) / processes
        centred = precise - mean.view(broadcast)
        variance = _Sum.apply(centred.square().mean(others)) / processes
        self._remember(mean, variance, processes * x.numel() // x.shape[1])
        scale = (variance + self.eps).rsqrt() * self.weight
        return (centred * scale.view(broadcast) + self.bias.view(broadcast)).to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        self.num_batches_tracked.add_(1)  # type: ignore[union-attr]  # checked when constructed
        unbiased = variance * (count / (count - 1))
        for buffer, value in ((self.running_mean, mean), (self.running_var, unbiased)):
            buffer.lerp_(value.to(buffer.dtype), self.momentum)  # type: ignore[union-attr, arg-type]  # likewise


def share_norms(network: nn.Module) -> nn.Module:
    """Put a `SharedBatchNorm` in place of each batch norm of a network, and return the network."""
    if isinstance(network, _BatchNorm):
        return SharedBatchNorm(network)
    for name, child in network.named_children():
        setattr(network, name, share_norms(child))
    return network


@contextlib.contextmanager
def alone(network: nn.Module) -> Iterator[None]:
    """Let the norms of a network take the statistics of this process's rows alone, within."""
    norms = [module for module in network.modules() if isinstance(module, SharedBatchNorm)]
    for norm in norms:
        norm.is_alone = True
    try:
        yield
    finally:
        for norm in norms:
            norm.is_alone = False
