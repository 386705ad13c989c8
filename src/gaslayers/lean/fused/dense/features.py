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
from typing import Any

import torch
from torch import Tensor

from gaslayers.lean.batch_norm import BatchNormCall, running_of
from gaslayers.lean.engine.version import check_seen, seen
from gaslayers.lean.fused.parts.layer import Layer
from gaslayers.lean.fused.parts.norm import BatchNorm, track, write_and_measure
from gaslayers.lean.fused.parts.slots import Slots
from gaslayers.lean.layout import layout_of
from gaslayers.lean.precision import convolution_dtype, without_autocast
from gaslayers.lean.rerun import save, saved


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

    @property
    def calls(self) -> list[BatchNormCall]:
        """The calls of all norms."""
        return [call for layer in self.layers for call in layer.calls]


class DenseFeatures(torch.autograd.Function):
    """The whole block, from the input and the parameters to all features.

    The backward pass is made of differentiable operators and reads the function's own output, so
    that the gradient of a gradient is right and comes back through this same backward pass.
    """

    @staticmethod
    def forward(ctx: Any, plan: Plan, dtype: torch.dtype, x: Tensor, *tensors: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, out_channels, H, W)."""
        calls = plan.calls
        slots = Slots(tensors, dtype, x, calls=calls)
        layout = layout_of(x)
        shape = (x.shape[0], plan.out_channels, *x.shape[2:])
        features = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)
        moments: Tensor | None = None
        if plan.eps is not None:
            read_channels = plan.layers[-1].in_channels
            precise = torch.promote_types(x.dtype, torch.float32)
            moments = torch.empty((3, read_channels), dtype=precise, device=x.device)
        kept: list[Tensor | None] = []
        written = 0

        def write(new: Tensor) -> None:
            nonlocal written
            start, written = written, written + new.shape[1]
            place = features[:, start:written]
            # As concatenating does: convolutions may make maps in another memory format.
            new = new if layout_of(new) == layout else new.contiguous(memory_format=layout)
            if moments is None or plan.eps is None or start >= moments.shape[1]:
                place.copy_(new)
            else:
                write_and_measure(new, place, moments[:, start:written], plan.eps, slots)

        write(x)
        untracked: list[BatchNorm] = []
        for layer in plan.layers:
            front = layer.front
            read = features[:, :written]
            own_moments = None if moments is None else moments[:, :written]
            if front.runs_by_kernels(read, slots):
                activated = front.forward_by_kernels(read, slots, own_moments, tracks=True)
            else:
                activated = front.forward(read, slots, own_moments)
                if front.batch_norm is not None:
                    untracked.append(front.batch_norm)
            for branch in layer.branches:
                new, own = branch.forward(activated, slots)
                kept += own
                write(new)
        if moments is not None:
            track(untracked, moments, slots)
        ctx.plan, ctx.dtype, ctx.layout = plan, dtype, layout
        ctx.tensor_count, ctx.seen = len(tensors), seen(x)
        save(ctx, features, moments, *tensors, *kept, watched=running_of(calls))
        return features

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """(N, out_channels, H, W) -> the gradients of the input and of the tensors."""
        features, moments, *rest = _saved(ctx)
        check_seen(ctx.seen)
        tensors, kept = rest[: ctx.tensor_count], rest[ctx.tensor_count :]
        wants_x, *wanted = ctx.needs_input_grad[2:]
        slots = Slots(tensors, ctx.dtype, features, wanted, grad)
        layers = ctx.plan.layers
        # Whether there is a gradient of what a layer reads: of the input, or in a layer so far.
        wants = itertools.accumulate(
            (layer.wants(slots) for layer in layers), operator.or_, initial=wants_x
        )
        with without_autocast(features.device):
            steps = list(zip(layers, itertools.pairwise(wants), strict=True))
            for layer, (wants_read, wants_made) in reversed(steps):
                if not wants_made:
                    break
                channels = layer.in_channels
                passed, new = grad.split_with_sizes((channels, grad.size(1) - channels), dim=1)
                through = layer.backward(
                    new,
                    features[:, :channels],
                    kept,
                    slots,
                    None if moments is None else moments[:, :channels],
                    wants_read=wants_read,
                    passed=passed,
                    layout=ctx.layout,
                )
                grad = passed if through is None else through
        return None, None, grad if wants_x else None, *slots.gradients


def _saved(ctx: Any) -> list[Any]:
    """What `DenseFeatures` saved; of a changed output PyTorch's error, and what to do about it."""
    try:
        return saved(ctx)
    except RuntimeError as error:
        if f"output 0 of {DenseFeatures.__name__}" not in str(error):
            raise
        remedy = (
            "DenseBlock: its output is what it keeps for the backward pass. Let what follows make "
            "a new tensor, or set memory_efficient=False."
        )
        raise RuntimeError(f"{error} {remedy}") from error


def run_dense(plan: Plan, tensors: Sequence[Tensor], x: Tensor) -> Tensor:
    """Run a dense block; only where `gaslayers.lean.precision.suits` says so."""
    dtype = convolution_dtype(x, tensors)
    with without_autocast(x.device):
        return DenseFeatures.apply(plan, dtype, x, *tensors)
