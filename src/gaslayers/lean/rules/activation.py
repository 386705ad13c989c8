"""Activations: those with two bounds keep one bit per element, smooth ones what PyTorch keeps."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional as F

from gaslayers.lean.engine.bits import Bits
from gaslayers.lean.engine.form import Form
from gaslayers.lean.engine.operation import Keep, Operation, is_small
from gaslayers.lean.engine.table import rule
from gaslayers.lean.native.bits import NOT_ZERO
from gaslayers.lean.rules.pure import add_pure, run_in_place, run_pure

add_pure(
    "silu", "gelu", "elu", "selu", "celu", "softplus", "mish", "hardswish", "hardsigmoid",
    "softsign", "tanhshrink", "logsigmoid", "tanh", "sigmoid", "prelu", "glu", "softmax",
    "log_softmax",
)  # fmt: skip


def _run(op: Operation, keep: Keep, twin: Callable[..., Tensor], *, in_place: bool) -> Any:
    if in_place:
        return run_in_place(op, twin, keep)
    return run_pure(op, keep)


def _as_any(_: Tensor) -> None:
    return None


class _Arguments(Protocol):
    """An operator and its arguments."""

    func: Callable[..., Any]

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        """An argument by its place or its name."""


def bounds_of(op: _Arguments) -> tuple[float, float] | None:
    """Between which values the gradient passes; None: by tensors, or by none."""
    if op.func in (F.relu6,):
        return 0.0, 6.0
    if op.func in (F.hardtanh, torch._C._nn.hardtanh, torch._C._nn.hardtanh_):
        return op.argument(1, "min_val", -1.0), op.argument(2, "max_val", 1.0)
    low, high = op.argument(1, "min"), op.argument(2, "max")
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        return None
    return (-math.inf if low is None else low), (math.inf if high is None else high)


class _KeepInside:
    """Keeps of a saved map whether its values are between two bounds."""

    def __init__(self, op: Operation, low: float, high: float, *, with_bounds: bool) -> None:
        self._outer = op.pass_.outer
        self._low, self._high, self._with_bounds = low, high, with_bounds

    def __call__(self, saved: Tensor) -> Form | None:
        low, high = self._low, self._high
        if is_small(saved) or not saved.is_floating_point() or not low < high:
            return None
        between, outside = _two_values(low, high)
        if abs(between) > torch.finfo(saved.dtype).max:
            return None
        if not self._with_bounds and _has_nan(saved):
            return None  # a gradient passes it or not, by whether it stands in a full vector
        inside = is_inside(saved, low, high, with_bounds=self._with_bounds)
        return Bits(inside, NOT_ZERO, saved.dtype, low=outside, high=between, outer=self._outer)


def _has_nan(values: Tensor) -> bool:
    """Asked of real tensors on a CPU, whose kernels are the ones that differ."""
    return values.is_cpu and type(values) is not FakeTensor and bool(values.isnan().any())


def is_inside(values: Tensor, low: float, high: float, *, with_bounds: bool) -> Tensor:
    """Where the gradient of an activation with two bounds passes, as bools.

    Args:
        values: What the activation reads.
        low: The lower bound.
        high: The upper bound.
        with_bounds: Whether it is `torch.clamp`; else it is `torch.nn.functional.hardtanh`.
    """
    if with_bounds and _clamp_passes_bounds():
        inside = values <= high
        return inside if low == -math.inf else inside.logical_and_(values >= low)
    if with_bounds:
        return (values > low).logical_and_(values < high)
    # This kernel compares in float32, which a bound in fewer bits would not be equal to.
    values = values.float() if values.dtype.itemsize < 4 else values
    return (values <= low).logical_or_(values >= high).logical_not_()


@functools.cache
def _clamp_passes_bounds() -> bool:
    """Whether clamp hands on the gradient of a value that is at a bound; PyTorch has changed it."""
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(_as_it_is, _as_it_is):
        x = torch.zeros(1, requires_grad=True)
        (grad,) = torch.autograd.grad(torch.clamp(x, 0, 1), x)
    return bool(grad)


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


def _two_values(low: float, high: float) -> tuple[float, float]:
    """A value between the bounds, and one outside."""
    if math.isinf(low):
        return (0.0, math.inf) if math.isinf(high) else (high - 1.0 - abs(high), math.inf)
    if math.isinf(high):
        return low + 1.0 + abs(low), -math.inf
    return (low + high) / 2, math.inf


@rule(
    torch.clamp, Tensor.clamp, torch.clamp_, Tensor.clamp_, torch.clip, Tensor.clip,
    torch.clip_, Tensor.clip_, torch.clamp_min, Tensor.clamp_min,
)  # fmt: skip
def _clamp(op: Operation) -> Any:
    bounds = bounds_of(op)
    in_place = op.func.__name__.endswith("_")
    keep: Keep = _as_any if bounds is None else _KeepInside(op, *bounds, with_bounds=True)
    return _run(op, keep, torch.clamp, in_place=in_place)


@rule(F.hardtanh, F.relu6, torch._C._nn.hardtanh, torch._C._nn.hardtanh_)
def _hardtanh(op: Operation) -> Any:
    low, high = bounds_of(op) or (-1.0, 1.0)
    place = 1 if op.func is F.relu6 else 3
    in_place = op.func is torch._C._nn.hardtanh_ or bool(op.argument(place, "inplace", False))
    twin = functools.partial(_hardtanh_again, low, high)
    return _run(op, _KeepInside(op, low, high, with_bounds=False), twin, in_place=in_place)


def _hardtanh_again(low: float, high: float, input: Tensor, *_: Any, **__: Any) -> Tensor:  # noqa: A002
    return torch._C._nn.hardtanh(input, low, high)


def _smooth_in_place(function: Callable[..., Any], twin: Callable[..., Tensor], place: int) -> None:
    """Let an activation that takes ``inplace`` be known both ways."""

    @rule(function)
    def run(op: Operation) -> Any:
        if not op.argument(place, "inplace", False):
            return run_pure(op)
        return run_in_place(op, twin)


def _without_inplace(function: Callable[..., Tensor], place: int) -> Callable[..., Tensor]:
    def twin(*args: Any, **kwargs: Any) -> Tensor:
        kwargs.pop("inplace", None)
        return function(*args[:place], *args[place + 1 :], **kwargs)

    return twin


for _function, _place in (
    (F.silu, 1), (F.mish, 1), (F.hardswish, 1), (F.hardsigmoid, 1), (F.selu, 1), (F.elu, 2),
    (F.celu, 2), (F.threshold, 3),
):  # fmt: skip
    _smooth_in_place(_function, _without_inplace(_function, _place), _place)
