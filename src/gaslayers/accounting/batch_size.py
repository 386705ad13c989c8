"""The largest batch whose training step fits a budget of memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from gaslayers._checks import bad_type, bad_value, check_choice, check_int
from gaslayers.accounting._examples import (
    batch_size_of,
    check_device,
    check_dtype,
    with_batch_of,
)
from gaslayers.accounting._fake import fake_twin, fake_zeros
from gaslayers.accounting._rehearsal import OptimizerFactory
from gaslayers.accounting._sandbox import Call, isolated, make_call
from gaslayers.accounting.peak import check_callable, rehearse
from gaslayers.lean.modules import tensors_of

_OWNER = "max_batch_size"
# A batch of one is special; 24 more, as in lean layers 2, 3, 4 or 8 values share a byte.
_FIRST, _SECOND = 2, 26
_SECANTS = 8  # before halving: a peak is the highest of a few straight lines
_GROWTH = 1024  # at most, from one batch to the next: sizes must stay numbers of 64 bits
_MOST = 2**50
"""A pebibyte, or as many numbers in a sample: more than any memory holds."""


def max_batch_size(
    module: nn.Module,
    input_shape: Any,
    *,
    budget_bytes: int,
    kwargs: Mapping[str, Any] | None = None,
    loss: Callable[[Any], Tensor] | None = None,
    optimizer: OptimizerFactory | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    kind: str = "tensor",
) -> int:
    """Find the largest batch whose training step's peak fits a budget, without running it.

    From a batch of two up the peak is a straight line, or the highest of several: two evaluations
    of `peak_memory` give the answer, which is verified by evaluating it and its successor. Where
    the check fails, the search goes on from there, so that the answer is exact.

    Args:
        module: What to train.
        input_shape: Shape of one sample, without the batch, where the module takes one tensor.
            Otherwise example inputs as for `gaslayers.count`, batch first: a tuple holds the
            positional arguments, such as images and labels, anything else with a tensor in it is
            the one argument. The length of the first tensor's first axis is the batch; every
            tensor whose first axis is as long grows with it, and whatever else there is stays as
            it is. Take a length that no other first axis has.
        budget_bytes: Bytes that the peak may take, parameters and all.
        kwargs: Examples of keyword arguments of the forward pass. An empty tuple before them
            stands for no positional argument.
        loss: As for `peak_memory`. What it brings along, such as labels, does not grow.
        optimizer: As for `peak_memory`.
        dtype: Type of an input that is given by its shape; None: float32.
        device: Where an input is that is given by its shape; None: where the module's first
            parameter is.
        kind: ``"tensor"``: the tensor peak; ``"allocator"``: in blocks of CUDA's allocator, with
            its optimisers.

    Returns:
        The largest batch; 0 where not even one sample fits, or where the smallest batch that fits
        is one that the module cannot train on, as batch norm on a single value a channel.

    Raises:
        TypeError: As for `peak_memory`, or an argument of the wrong kind.
        ValueError: As for `peak_memory`; a size below one, a budget beyond 2^50; examples without
            a batch, or beside a ``dtype`` or ``device``, which they have themselves.

    Note:
        The workspaces of kernels and the context of a device are not in the peak: leave them room
        in the budget, by what `measure_peak` tells. The peak of either step is meant, the first
        or a later one. It is taken not to fall where the batch grows.

    Example:
        >>> import torch
        >>> from gaslayers import DenseBlock, max_batch_size
        >>> block = DenseBlock(8, 4)
        >>> max_batch_size(block, (8, 16, 16), budget_bytes=2**20)
        10
        >>> score = torch.nn.Bilinear(64, 10, 1)
        >>> images_and_labels = torch.zeros(2, 64), torch.zeros(2, 10)
        >>> max_batch_size(score, images_and_labels, budget_bytes=2**20)
        3440
    """
    check_int(_OWNER, "budget_bytes", budget_bytes)
    if budget_bytes > _MOST:
        raise bad_value(_OWNER, "budget_bytes", "be <= 2^50", budget_bytes)
    check_choice(_OWNER, "kind", kind, ("tensor", "allocator"))
    check_callable(_OWNER, "loss", loss)
    check_callable(_OWNER, "optimizer", optimizer)
    if kwargs is not None or tensors_of(input_shape):
        call, make = _from_examples(module, input_shape, kwargs, dtype, device)
    else:
        call, make = _from_shape(module, input_shape, dtype, device)

    def peak(batch_size: int) -> int:
        with isolated(call):
            fakes = FakeTensorMode()
            twin, (own_loss,) = fake_twin(_OWNER, fakes, call, (loss,))
            twin = make(fakes, twin, batch_size)
            report = rehearse(_OWNER, fakes, twin, own_loss, optimizer, steps=2)
        if kind == "allocator":
            return report.allocator_peak
        return max(report.first_step.peak, report.peak)

    return _largest(peak, budget_bytes)


_Make: TypeAlias = Callable[[FakeTensorMode, Call, int], Call]
"""Gives a fake module inputs of a batch size."""


def _from_shape(module: Any, shape: Any, dtype: Any, device: Any) -> tuple[Call, _Make]:
    if isinstance(shape, str | bytes) or not isinstance(shape, Sequence):
        rule = "be a sequence of ints, the shape of one sample, or hold example tensors"
        raise bad_type(_OWNER, "input_shape", rule, shape)
    for size in shape:
        check_int(_OWNER, "input_shape", size)
    if math.prod(shape) > _MOST:
        raise bad_value(_OWNER, "input_shape", "have at most 2^50 numbers", shape)
    if dtype is None:
        dtype = torch.float32
    check_dtype(_OWNER, "dtype", dtype)
    call = make_call(_OWNER, module, (), None)
    if device is None:
        device = next((tensor.device for tensor in call.tensors()), torch.device("cpu"))
    place = check_device(_OWNER, "device", device)

    def make(fakes: FakeTensorMode, twin: Call, size: int) -> Call:
        return Call(twin.module, (fake_zeros(fakes, (size, *shape), dtype, place),), {})

    return call, make


def _from_examples(
    module: Any, inputs: Any, kwargs: Any, dtype: Any, device: Any
) -> tuple[Call, _Make]:
    for argument, value in (("dtype", dtype), ("device", device)):
        if value is not None:
            rule = "be None beside example tensors, which have their own"
            raise bad_value(_OWNER, argument, rule, value)
    if not tensors_of(inputs) and inputs != ():
        remedy = "Pass an example tensor, or () for no positional argument."
        raise bad_type(_OWNER, "input_shape", "hold tensors beside kwargs", inputs, remedy)
    call = make_call(_OWNER, module, inputs, kwargs)
    example = batch_size_of(_OWNER, "input_shape", call.inputs())

    def make(fakes: FakeTensorMode, twin: Call, size: int) -> Call:
        return with_batch_of(fakes, twin, example=example, size=size)

    return call, make


def _largest(peak: Callable[[int], int], budget: int) -> int:
    """The largest batch whose peak is within the budget."""
    low, low_peak = _FIRST, peak(_FIRST)
    if low_peak > budget:
        try:
            return int(peak(1) <= budget)
        except ValueError:  # of batch norm, which has no variance to divide by
            return 0
    high, high_peak = _SECOND, peak(_SECOND)
    while high_peak <= budget:  # extend the line until it leaves the budget
        slope = max(1, (high_peak - low_peak) // (high - low))
        step = max(1, (budget - high_peak) // slope)
        low, low_peak, high = high, high_peak, min(high + step + 1, _GROWTH * high)
        high_peak = peak(high)
    evaluations = 0
    while high - low > 1:
        if evaluations < _SECANTS:
            middle = low + (budget - low_peak) * (high - low) // (high_peak - low_peak)
            middle = min(max(middle, low + 1), high - 1)
        else:
            middle = (low + high) // 2
        evaluations += 1
        middle_peak = peak(middle)
        if middle_peak <= budget:
            low, low_peak = middle, middle_peak
        else:
            high, high_peak = middle, middle_peak
    return low
