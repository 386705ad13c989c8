"""Norms: run again by the statistics of the first time, or by the same operator."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gaslayers.lean.engine.form import Form
from gaslayers.lean.engine.forms import ShapeOnly
from gaslayers.lean.engine.operation import Operation, is_small
from gaslayers.lean.engine.table import rule
from gaslayers.lean.engine.whole import Whole
from gaslayers.lean.rules.norm_in_bands import can_be_in_bands, each_image_in_bands, in_bands
from gaslayers.lean.rules.pure import add_pure

add_pure("group_norm", "layer_norm", "rms_norm", "local_response_norm")


def _copy(values: Tensor | None) -> Tensor | None:
    """The numbers of now: those of a layer may be changed before the backward pass."""
    return None if values is None else values.detach().clone()


@rule(F.batch_norm, torch.batch_norm)
def _batch_norm(op: Operation) -> Any:
    x = op.argument(0, "input")
    if op.func is torch.batch_norm or not isinstance(x, Tensor):
        return op.run()
    running = op.argument(1, "running_mean"), op.argument(2, "running_var")
    weight, bias = op.argument(3, "weight"), op.argument(4, "bias")
    training, eps = op.argument(5, "training", False), op.argument(7, "eps", 1e-5)
    origin = op.origin(x)
    is_frozen = not any(isinstance(p, Tensor) and p.requires_grad for p in (weight, bias))
    numbers = _copy(weight), _copy(bias)
    if not training:
        # The gradient of the input is that of a scaling, and reads no values of the input.
        result = op.run(functools.partial(_shape_of_map, x) if is_frozen else None)
        scaling = *map(_copy, running), *numbers
        op.record(result, functools.partial(_evaluated, scaling, eps), [origin], is_fresh=True)
        return result
    given = [p.untyped_storage()._cdata for p in (*running, weight, bias) if p is not None]
    statistics: list[Tensor] = []
    channels = (x.shape[1],)

    def keep(saved: Tensor) -> Form | None:
        if saved.shape != channels:
            return None
        if saved.untyped_storage()._cdata not in given:
            statistics.append(saved.detach())
        return Whole(saved, op.pass_.outer)

    if op.pass_.norms_in_bands and can_be_in_bands(x, eps, *running, weight, bias):
        momentum = op.argument(6, "momentum", 0.1)
        op.instead = functools.partial(in_bands, x, weight, bias, *running, momentum, eps, op.pass_)
    result = op.run(keep)
    if _is_affine(x, statistics, numbers):
        op.record(result, functools.partial(_scaled, statistics, numbers), [origin], is_fresh=True)
    elif x.dtype.itemsize >= 4:  # below, statistics are of one precision or another
        op.record(result, functools.partial(_trained, numbers, eps), [origin], is_fresh=True)
    return result


def _shape_of_map(x: Tensor, saved: Tensor) -> Form | None:
    is_map = saved.shape == x.shape and not is_small(saved)
    return ShapeOnly(saved, has_memory=True) if is_map else None


def _evaluated(scaling: Any, eps: float, x: Tensor) -> Tensor:
    mean, variance, weight, bias = scaling
    return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps)


def _trained(numbers: Any, eps: float, x: Tensor) -> Tensor:
    """By the batch's statistics, which are computed once more; running ones do not move."""
    weight, bias = numbers
    return F.batch_norm(x, None, None, weight, bias, True, 0.0, eps)


def _is_affine(x: Tensor, statistics: list[Tensor], numbers: Any) -> bool:
    """Whether it is known what PyTorch's operator multiplies by and adds, to the bit.

    Other devices, layouts and precisions round otherwise.
    """
    if x.device.type != "cpu" or len(statistics) != 2 or not _is_dense(x):
        return False
    known = (*statistics, *numbers)
    return all(line is None or line.dtype == torch.float32 for line in known)


def _scaled(statistics: list[Tensor], numbers: Any, x: Tensor) -> Tensor:
    """As the operator on a CPU does it: its evaluating form, by the batch's statistics.

    Both multiply by the weight over the deviation, which here is a weight over one.
    """
    mean, inverse_std = statistics
    weight, bias = numbers
    scale = inverse_std if weight is None else inverse_std * weight
    ones = torch.ones_like(mean)
    return torch.native_batch_norm(x, scale, bias, mean, ones, False, 0.0, 0.0)[0]


def _is_dense(x: Tensor) -> bool:
    if x.is_contiguous():
        return True
    return x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)


@rule(F.instance_norm)
def _instance_norm(op: Operation) -> Any:
    x = op.argument(0, "input")
    running = op.argument(1, "running_mean"), op.argument(2, "running_var")
    numbers = _copy(op.argument(3, "weight")), _copy(op.argument(4, "bias"))
    by_input, eps = op.argument(5, "use_input_stats", True), op.argument(7, "eps", 1e-5)
    origin = op.origin(x)
    no_statistics = running == (None, None)
    weight, bias = op.argument(3, "weight"), op.argument(4, "bias")
    is_in_bands = op.pass_.norms_in_bands and by_input and no_statistics
    if is_in_bands and can_be_in_bands(x, eps, weight, bias):
        op.instead = functools.partial(each_image_in_bands, x, weight, bias, eps, op.pass_)
    result = op.run()
    if by_input:
        again = functools.partial(_of_each_image, numbers, eps)
    else:
        again = functools.partial(_of_running, (*map(_copy, running), *numbers), eps)
    op.record(result, again, [origin], is_fresh=True)
    return result


def _of_running(scaling: Any, eps: float, x: Tensor) -> Tensor:
    mean, variance, weight, bias = scaling
    return F.instance_norm(x, mean, variance, weight, bias, False, 0.0, eps)


def _of_each_image(numbers: Any, eps: float, x: Tensor) -> Tensor:
    """By each image's statistics; running ones do not move."""
    weight, bias = numbers
    return F.instance_norm(x, None, None, weight, bias, True, 0.0, eps)
