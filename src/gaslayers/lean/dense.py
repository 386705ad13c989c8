"""A dense block in one buffer, its norms and activations computed again in the backward pass.

The plain composition concatenates anew for every layer and keeps, for each, all features so far,
once as they are and once normalised and activated: memory quadratic in the number of layers. Here
a feature is written once, into its place in the output, and the backward pass reads the output.
"""

from __future__ import annotations

import dataclasses
import itertools
import operator
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from gaslayers.lean.dense_branch import Branch
from gaslayers.lean.dense_norm import NormActivation, measure
from gaslayers.lean.dense_slots import Slots


@dataclasses.dataclass(frozen=True)
class Layer:
    """One layer of a dense block.

    Args:
        in_channels: Channels of the features that it reads.
        front: Norm and activation of what it reads.
        branches: What makes its features, side by side in the order of their channels.
    """

    in_channels: int
    front: NormActivation
    branches: tuple[Branch, ...]

    def wants(self, slots: Slots) -> bool:
        """Whether the gradient of any of its parameters is asked for."""
        parts: tuple[NormActivation | Branch, ...] = (self.front, *self.branches)
        return any(slots.wants(*part.parameters) for part in parts)

    def backward(
        self,
        grad: Tensor,
        read: Tensor,
        kept: list[Tensor | None],
        slots: Slots,
        moments: Tensor | None,
        *,
        wants_read: bool,
    ) -> Tensor:
        """Gradient of all features so far -> gradient of those that it read.

        What its branches kept is taken from the end of the list. Sums are in autograd's order,
        the last branch first, whose first operand decides on the layout.
        """
        activated = self.front.forward(read, slots, moments)
        wants_activated = wants_read or slots.wants(*self.front.parameters)
        new, grad = grad[:, self.in_channels :], grad[:, : self.in_channels]
        total = grad if self.front.is_identity else None
        for branch in reversed(self.branches):
            start = new.shape[1] - branch.out_channels(slots)
            own = kept[len(kept) - branch.kept_count :]
            del kept[len(kept) - branch.kept_count :]
            through = branch.backward(
                new[:, start:], activated, own, slots, wants_x=wants_activated
            )
            new = new[:, :start]
            if through is not None:
                total = through if total is None else total + through
        if total is None:
            return grad
        if self.front.is_identity:
            return total
        grad_read = self.front.backward(total, activated, read, slots, moments, wants_x=wants_read)
        return grad if grad_read is None else grad + grad_read


@dataclasses.dataclass(frozen=True)
class Plan:
    """A dense block without its tensors.

    Args:
        layers: The layers in order.
        out_channels: Channels of the output.
        eps: What the norms in front add to the batch's variance; None: none reads the batch.
    """

    layers: tuple[Layer, ...]
    out_channels: int
    eps: float | None


class DenseFeatures(torch.autograd.Function):
    """The whole block, from the input and the parameters to all features.

    The backward pass is made of differentiable operators and reads the function's own output, so
    that the gradient of a gradient is right and comes back through this same backward pass.
    """

    @staticmethod
    def forward(ctx: Any, plan: Plan, dtype: torch.dtype, x: Tensor, *tensors: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, out_channels, H, W)."""
        slots = Slots(tensors, dtype)
        layout = _memory_format(x)
        shape = (x.shape[0], plan.out_channels, *x.shape[2:])
        features = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)
        read_channels = plan.layers[-1].in_channels
        moments: list[Tensor] = []
        kept: list[Tensor | None] = []
        written = 0

        def write(new: Tensor) -> None:
            nonlocal written
            new = new.to(features.dtype)
            features[:, written : written + new.shape[1]] = new
            if plan.eps is not None and written < read_channels:
                moments.append(measure(new, plan.eps))
            written += new.shape[1]

        write(x)
        for layer in plan.layers:
            so_far = torch.cat(moments, dim=1) if moments else None
            if layer.front.batch_norm is not None and so_far is not None:
                layer.front.batch_norm.track(so_far)
            activated = layer.front.forward(features[:, :written], slots, so_far)
            for branch in layer.branches:
                new, own = branch.forward(activated, slots)
                kept += own
                write(new)
        ctx.plan, ctx.dtype, ctx.layout, ctx.tensor_count = plan, dtype, layout, len(tensors)
        ctx.save_for_backward(features, so_far, *tensors, *kept)
        return features

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """(N, out_channels, H, W) -> the gradients of the input and of the tensors."""
        features, moments, *rest = ctx.saved_tensors
        tensors, kept = rest[: ctx.tensor_count], rest[ctx.tensor_count :]
        wants_x, *wanted = ctx.needs_input_grad[2:]
        slots = Slots(tensors, ctx.dtype, wanted)
        layers = ctx.plan.layers
        # What a layer reads has a gradient where the input or an earlier layer has one.
        wants = itertools.accumulate(
            (layer.wants(slots) for layer in layers), operator.or_, initial=wants_x
        )
        with _without_autocast(features.device):
            for layer, wants_read in reversed(list(zip(layers, wants, strict=False))):
                if not (wants_read or layer.wants(slots)):
                    break
                grad = layer.backward(
                    grad,
                    features[:, : layer.in_channels].contiguous(memory_format=ctx.layout),
                    kept,
                    slots,
                    None if moments is None else moments[:, : layer.in_channels],
                    wants_read=wants_read,
                )
        return None, None, grad if wants_x else None, *slots.gradients


def _memory_format(x: Tensor) -> torch.memory_format:
    """What concatenation would give the output."""
    if x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous():
        return torch.channels_last
    return torch.contiguous_format


def _has_autocast(device: torch.device) -> bool:
    return torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)


def _without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Leave all casts to this module: autocast's cache would hand weights on without a graph."""
    if _has_autocast(device):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def _convolution_dtype(x: Tensor, tensors: Sequence[Tensor]) -> torch.dtype | None:
    """What the convolutions compute in; None: another mix than the lean path knows."""
    dtypes = {tensor.dtype for tensor in tensors}
    if dtypes == {torch.float32} and _has_autocast(x.device):
        low = torch.get_autocast_dtype(x.device.type)
        return low if x.dtype in (torch.float32, low) else None
    if x.dtype in (torch.float32, torch.float64) and dtypes == {x.dtype}:
        return x.dtype
    return None


def suits(x: Tensor, tensors: Sequence[Tensor]) -> bool:
    """Whether `run_dense` takes this input; what it does not take, the plain composition does.

    An empty batch and a single value a channel are PyTorch's to handle or to refuse, and so are
    tensors on different devices and precisions below float32 outside autocast.
    """
    same_device = all(tensor.device == x.device for tensor in tensors)
    several = x.numel() > x.shape[1]
    return several and same_device and _convolution_dtype(x, tensors) is not None


def run_dense(plan: Plan, tensors: Sequence[Tensor], x: Tensor) -> Tensor:
    """Run a dense block; only where `suits` says so."""
    dtype = _convolution_dtype(x, tensors)
    with _without_autocast(x.device):
        return DenseFeatures.apply(plan, dtype, x, *tensors)
