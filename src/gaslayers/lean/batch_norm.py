"""One call of a `torch.nn.BatchNorm2d`, taken apart so that a lean path can make it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gaslayers.lean.layout import in_told_strides
from gaslayers.lean.modules import parameter_of


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
        counter: The module's count of batches, where it counts them.
        is_cumulative: Whether the momentum is one over that count.
    """

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor | None
    training: bool
    momentum: float
    eps: float
    counter: Tensor | None = None
    is_cumulative: bool = False

    def check_sizes(self, channels: int) -> None:
        """Refuse what `torch.nn.BatchNorm2d` refuses: a norm made for so many channels or not."""
        check_lines(
            channels,
            running_mean=self.running_mean,
            running_var=self.running_var,
            weight=self.weight,
            bias=self.bias,
        )


def check_lines(channels: int, **lines: Tensor | None) -> None:
    """Raise where a line has not a value for each channel, as `torch.nn.functional.batch_norm`.

    The operator beneath it, `torch.native_batch_norm`, would read past the end.
    """
    for name, values in lines.items():
        if values is not None and values.numel() != channels:
            raise RuntimeError(f"{name} should contain {channels} elements not {values.numel()}")


def is_batch_norm(module: nn.Module) -> bool:
    """Whether this module's forward is that of `torch.nn.BatchNorm2d`, subclasses included.

    One that has lost one of its two running statistics is PyTorch's to refuse.
    """
    if not (isinstance(module, nn.BatchNorm2d) and type(module).forward is nn.BatchNorm2d.forward):
        return False
    mean, variance = parameter_of(module, "running_mean"), parameter_of(module, "running_var")
    return (mean is None) == (variance is None)


def read_call(norm: nn.BatchNorm2d) -> BatchNormCall:
    """The arguments of the call that the module would make; the batch is not counted."""
    mean, variance = parameter_of(norm, "running_mean"), parameter_of(norm, "running_var")
    training, tracks = norm.training, norm.track_running_stats
    # In training without tracking, the module passes no running statistics.
    keep_running = not training or tracks
    return BatchNormCall(
        weight=parameter_of(norm, "weight"),
        bias=parameter_of(norm, "bias"),
        running_mean=mean if keep_running else None,
        running_var=variance if keep_running else None,
        training=training or mean is None,
        momentum=0.0 if norm.momentum is None else norm.momentum,
        eps=norm.eps,
        counter=parameter_of(norm, "num_batches_tracked") if training and tracks else None,
        is_cumulative=norm.momentum is None,
    )


def count_batch(call: BatchNormCall) -> BatchNormCall:
    """Count the batch, where the module would; the call, with the momentum of this batch."""
    if call.counter is None:
        return call
    call.counter.add_(1)
    if not call.is_cumulative:
        return call
    return dataclasses.replace(call, momentum=1.0 / float(call.counter))


def count_at_once(calls: Collection[BatchNormCall]) -> bool:
    """Count the batch in several norms by one operator, which takes less time.

    False, and nothing done, where the order matters: where one norm occurs twice, or has a
    momentum of its count.
    """
    counters = [call.counter for call in calls if call.counter is not None]
    is_ordered = len(set(map(id, counters))) < len(counters) or any(
        call.is_cumulative for call in calls if call.counter is not None
    )
    if counters and not is_ordered:
        torch._foreach_add_(counters, 1)
    return not is_ordered


def begin_call(norm: nn.BatchNorm2d) -> BatchNormCall:
    """Count the batch, where the module would, and return the arguments of its call."""
    return count_batch(read_call(norm))


def running_of(calls: Sequence[BatchNormCall]) -> list[Tensor]:
    """The running statistics of norms, which autograd keeps beside what they read.

    Their values are not read again. A change of them before the backward pass is refused, as by
    PyTorch's own norm.
    """
    every = [statistics for call in calls for statistics in (call.running_mean, call.running_var)]
    return [statistics for statistics in every if statistics is not None]


def norm_backward(grad: Tensor, x: Tensor, *arguments: Any) -> list[Tensor | None]:
    """`torch.ops.aten.native_batch_norm_backward`, right for axes of one in any strides, too."""
    maps = in_told_strides(grad), in_told_strides(x)
    return [*torch.ops.aten.native_batch_norm_backward(*maps, *arguments)]
