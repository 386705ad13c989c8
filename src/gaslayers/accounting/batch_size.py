"""The largest batch whose training step fits a budget of memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from gaslayers._checks import bad_type, check_choice, check_int
from gaslayers.accounting._fake import fake_twin, fake_zeros
from gaslayers.accounting._rehearsal import OptimizerFactory
from gaslayers.accounting._sandbox import Call, isolated, make_call
from gaslayers.accounting.peak import check_callable, rehearse

_OWNER = "max_batch_size"
# A batch of one is special; 24 more, as in lean layers 2, 3, 4 or 8 values share a byte.
_FIRST, _SECOND = 2, 26
_SECANTS = 8  # before halving: a peak is the highest of a few straight lines


def max_batch_size(
    module: nn.Module,
    input_shape: Sequence[int],
    *,
    budget_bytes: int,
    loss: Callable[[object], Tensor] | None = None,
    optimizer: OptimizerFactory | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
    kind: str = "tensor",
) -> int:
    """Find the largest batch whose training step's peak fits a budget, without running it.

    From a batch of two up the peak is a straight line, or the highest of several: two evaluations
    of `peak_memory` give the answer, which is verified by evaluating it and its successor. Where
    the check fails, the search goes on from there, so that the answer is exact.

    Args:
        module: What to train.
        input_shape: Shape of one sample, without the batch.
        budget_bytes: Bytes that the peak may take, parameters and all.
        loss: As for `peak_memory`.
        optimizer: As for `peak_memory`.
        dtype: Type of the input.
        device: Where the input is; None: where the module's first parameter is.
        kind: ``"tensor"``: the tensor peak; ``"allocator"``: in blocks of CUDA's allocator, with
            its optimisers.

    Returns:
        The largest batch; 0 where not even one sample fits, or where the smallest batch that fits
        is one that the module cannot train on, as batch norm on a single value a channel.

    Raises:
        TypeError: As for `peak_memory`, or an argument of the wrong kind.
        ValueError: As for `peak_memory`, or a size below one.

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
    """
    check_int(_OWNER, "budget_bytes", budget_bytes)
    check_choice(_OWNER, "kind", kind, ("tensor", "allocator"))
    check_callable(_OWNER, "loss", loss)
    check_callable(_OWNER, "optimizer", optimizer)
    if not isinstance(input_shape, Sequence):
        raise bad_type(_OWNER, "input_shape", "be a sequence of ints", input_shape)
    for size in input_shape:
        check_int(_OWNER, "input_shape", size)
    call = make_call(_OWNER, module, (), None)
    if device is None:
        device = next((tensor.device for tensor in call.tensors()), torch.device("cpu"))

    def peak(batch_size: int) -> int:
        shape = (batch_size, *input_shape)
        with isolated(call):
            fakes = FakeTensorMode()
            twin, (own_loss,) = fake_twin(_OWNER, fakes, call, (loss,))
            x = fake_zeros(fakes, shape, dtype, torch.device(device))
            twin = Call(twin.module, (x,), {})
            report = rehearse(_OWNER, fakes, twin, own_loss, optimizer, steps=2)
        if kind == "allocator":
            return report.allocator_peak
        return max(report.first_step.peak, report.peak)

    return _largest(peak, budget_bytes)


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
        low, low_peak, high = high, high_peak, high + step + 1
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
