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


def begin_call(norm: nn.BatchNorm2d) -> BatchNormCall:
    """Count the batch, where the module would, and return the arguments of its call."""
    momentum = 0.0 if norm.momentum is None else norm.momentum
    counts = norm.training and norm.track_running_stats
    if counts and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        if norm.momentum is None:  # a cumulative average
            momentum = 1.0 / float(norm.num_batches_tracked)
    tracked = norm.running_mean is not None and norm.running_var is not None
    updated = norm.training or not tracked
    # In training without tracking, the module passes no running statistics.
    keep_running = not norm.training or norm.track_running_stats
    return BatchNormCall(
        weight=norm.weight,
        bias=norm.bias,
        running_mean=norm.running_mean if keep_running else None,
        running_var=norm.running_var if keep_running else None,
        training=updated,
        momentum=momentum,
        eps=norm.eps,
    )
