"""What the norm's kernels compute, by PyTorch's operators: for tensors that fit no kernel.

Sizes and dtypes that PyTorch refuses are refused here. Its operators for batch norm trust the sizes
of lines, as its modules look at them first, and in channels_last read lines without their gaps.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gaslayers.lean.activations import IDENTITY, activate, activation_backward
from gaslayers.lean.batch_norm import BatchNormCall, check_lines, norm_backward
from gaslayers.lean.native.norm_call import Gradients, Moments


def _line(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.contiguous()


def measure(x: Tensor, moments: Tensor, eps: float, to: Tensor | None) -> None:
    """As `gaslayers.lean.native.norm.measure`."""
    if to is not None:
        to.copy_(x)
    mean, variance = x.new_zeros((2, x.shape[1])).unbind()
    # With a momentum of 1 the running statistics are the batch's.
    _, mean, inverse_std = torch.native_batch_norm(x, None, None, mean, variance, True, 1.0, eps)
    moments.copy_(torch.stack([mean, inverse_std, variance]))


def run(
    x: Tensor,
    batch_norm: BatchNormCall,
    slope_before: float,
    slope_behind: float,
    *,
    overwrite: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `gaslayers.lean.native.norm.run`."""
    batch_norm.check_sizes(x.shape[1])
    kept = activate(x, slope_before, inplace=overwrite)
    running = (batch_norm.running_mean, batch_norm.running_var)
    moved = [_line(values) for values in running]
    y, *moments = torch.native_batch_norm(
        kept,
        _line(batch_norm.weight),
        _line(batch_norm.bias),
        moved[0],
        moved[1],
        True,
        batch_norm.momentum,
        batch_norm.eps,
    )
    for values, line in zip(running, moved, strict=True):
        if values is not None and line is not None and line is not values:
            values.copy_(line)
    return kept, activate(y, slope_behind, inplace=True), torch.stack(moments)


def normalize(
    x: Tensor,
    moments: Moments | None,
    weight: Tensor | None,
    bias: Tensor | None,
    slope: float,
    tracking: BatchNormCall | None,
) -> Tensor:
    """As `gaslayers.lean.native.norm.normalize`."""
    channels = x.shape[1]
    check_lines(channels, weight=weight, bias=bias)
    if tracking is not None and isinstance(moments, Tensor):
        tracking.check_sizes(channels)
        _move(tracking, moments[0], moments[2])
    if moments is None:
        lines = [None if line is None else line.view(1, -1, 1, 1) for line in (weight, bias)]
        y = x if lines[0] is None else x * lines[0]
        return activate(y if lines[1] is None else y + lines[1], slope)
    mean, inverse_std = moments[0], moments[1]
    check_lines(channels, saved_mean=mean, saved_invstd=inverse_std)
    # The kernel folds both factors of a channel into one; here they come folded.
    scale = inverse_std if weight is None else inverse_std * weight
    one = torch.ones_like(scale)
    y, _, _ = torch.native_batch_norm(
        x, _line(scale), _line(bias), _line(mean), one.contiguous(), False, 0.0, 0.0
    )
    return activate(y, slope, inplace=True)


def _move(call: BatchNormCall, mean: Tensor, variance: Tensor) -> None:
    """Move running statistics, in the order of operations of PyTorch's kernel."""
    if call.running_mean is not None:
        call.running_mean.mul_(1 - call.momentum).add_(mean * call.momentum)
    if call.running_var is not None:
        call.running_var.mul_(1 - call.momentum).add_(variance, alpha=call.momentum)


def normalize_backward(
    grad: Tensor,
    x: Tensor,
    moments: Moments | None,
    weight: Tensor | None,
    bias: Tensor | None,
    slope_before: float,
    slope_behind: float,
    wanted: Sequence[bool],
    more: Tensor | None,
    passed: Tensor | None,
) -> Gradients:
    """As `gaslayers.lean.native.norm.normalize_backward`."""
    channels = x.shape[1]
    check_lines(channels, weight=weight, bias=bias)
    for name, values in (("gradient", grad), ("second gradient", more), ("passed one", passed)):
        if values is not None and values.shape != x.shape:
            message = f"the {name} should have shape {tuple(x.shape)}, not {tuple(values.shape)}"
            raise RuntimeError(message)
    if more is not None:
        grad = grad + more
    if slope_behind != IDENTITY:
        result = normalize(x, moments, weight, bias, IDENTITY, None)
        grad = activation_backward(grad, result, slope_behind)
    found: list[Tensor | None]
    if moments is None:
        found = [grad if weight is None else grad * weight.view(1, -1, 1, 1), None, None]
    else:
        mean, inverse_std = moments[0], moments[1]
        check_lines(channels, saved_mean=mean, saved_invstd=inverse_std)
        found = norm_backward(
            *(grad, x, _line(weight), None, None, _line(mean), _line(inverse_std)),
            *(True, 0.0, list(wanted)),
        )
    grad_x, grad_weight, grad_bias = (
        values if is_wanted else None for values, is_wanted in zip(found, wanted, strict=True)
    )
    if grad_x is not None and slope_before != IDENTITY:
        grad_x = activation_backward(grad_x, x, slope_before)
    if grad_x is not None and passed is not None:
        grad_x = passed + grad_x
    return grad_x, grad_weight, grad_bias
