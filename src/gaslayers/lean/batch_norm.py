"""One call of a `torch.nn.BatchNorm2d`, taken apart so that a lean path can make it."""

from __future__ import annotations

import dataclasses

from torch import Tensor, nn


@dataclasses.dataclass(frozen=True)
class BatchNormCall:
    """The arguments of `torch.native_batch_norm` but the input, as the module would pass them.

    Args:
        weight: Scale of each channel, or None.
        bias: Offset of each channel, or None.
        running_mean: Updated by the call when training, used by it when not; or None.
        running_var: Likewise.
        training: Whether the statistics are the batch's.
        momentum: Share of the batch's statistics in the running ones.
        eps: Added to the variance.
    """

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor | None
    training: bool
    momentum: float
    eps: float


def is_batch_norm(module: nn.Module) -> bool:
    """Whether this module's forward is that of `torch.nn.BatchNorm2d`, subclasses included."""
    return isinstance(module, nn.BatchNorm2d) and type(module).forward is nn.BatchNorm2d.forward


def read_call(norm: nn.BatchNorm2d) -> BatchNormCall:
    """The arguments of the call that the module would make, but for a cumulative momentum."""
    # Modules find their attributes slowly, and this is asked before every forward pass.
    mean, variance = norm.running_mean, norm.running_var
    training = norm.training
    # In training without tracking, the module passes no running statistics.
    keep_running = not training or norm.track_running_stats
    return BatchNormCall(
        weight=norm.weight,
        bias=norm.bias,
        running_mean=mean if keep_running else None,
        running_var=variance if keep_running else None,
        training=training or mean is None or variance is None,
        momentum=0.0 if norm.momentum is None else norm.momentum,
        eps=norm.eps,
    )


def count_batch(norm: nn.BatchNorm2d, call: BatchNormCall) -> BatchNormCall:
    """Count the batch, where the module would; the call, with the momentum of this batch."""
    if not (norm.training and norm.track_running_stats):
        return call
    counter = norm.num_batches_tracked
    if counter is None:
        return call
    counter.add_(1)
    if norm.momentum is not None:
        return call
    return dataclasses.replace(call, momentum=1.0 / float(counter))  # a cumulative average


def begin_call(norm: nn.BatchNorm2d) -> BatchNormCall:
    """Count the batch, where the module would, and return the arguments of its call."""
    return count_batch(norm, read_call(norm))
