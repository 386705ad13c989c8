"""Activations: those of straight pieces keep a bit an element, smooth ones what PyTorch keeps."""

from __future__ import annotations

import functools
import math
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gaslayers.lean.engine.bits import Bits
from gaslayers.lean.engine.choice import Choice
from gaslayers.lean.engine.form import Form
from gaslayers.lean.engine.forms import Signs
from gaslayers.lean.engine.operation import Keep, Operation, is_known, is_small
from gaslayers.lean.engine.table import rule
from gaslayers.lean.engine.whole import Whole
from gaslayers.lean.native.bits import ABOVE_ZERO, NOT_AT_MOST_ZERO, NOT_ZERO, Test
from gaslayers.lean.rules.pure import add_pure, run_in_place, run_pure

add_pure(
    "silu", "gelu", "elu", "selu", "celu", "softplus", "mish", "hardswish", "hardsigmoid",
    "softsign", "tanhshrink", "logsigmoid", "tanh", "sigmoid", "prelu", "glu", "softmax",
    "log_softmax",
)  # fmt: skip


class _KeepSigns:
    """Keeps of a saved map on which side of zero its values are.

    Of the activation's input and of its result these are the same. Where the input can be made
    again from what is kept anyway, as behind a norm, nothing more is kept.

    Args:
        op: The activation.
        is_above: Tells the side; of NaN the one that the backward pass takes.
        in_place: Whether the activation writes over its input.
    """

    def __init__(
        self, op: Operation, is_above: Test, *, in_place: bool
    ) -> None:
        self._outer, self._is_above = op.pass_.outer, is_above
        self.made: Signs | None = None
        x = op.argument(0, "input")
        origin = op.pass_.book.find(x) if isinstance(x, Tensor) and is_known(x) else None
        self._input: Form | None = None
        if origin is not None and not is_small(x):
            form = Choice(op.pass_.book, self._outer).free_form(origin)
            # In place the activation itself would change what this form reads.
            self._input = None if form is not None and in_place and _reads(form, x) else form

    def __call__(self, saved: Tensor) -> Form | None:
        if is_small(saved) or not saved.is_floating_point():
            return None
        if self._input is not None:
            return self._input
        self.made = Signs(Bits(saved, self._is_above, saved.dtype, outer=self._outer))
        return self.made


def _reads(form: Form, x: Tensor) -> bool:
    """Whether a form reads the memory of this tensor."""
    if isinstance(form, Whole) and form.tensor is not None:
        return form.tensor.untyped_storage()._cdata == x.untyped_storage()._cdata
    return any(_reads(part, x) for part in form.parts)


def _run(op: Operation, keep: Keep, twin: Callable[..., Tensor], *, in_place: bool) -> Any:
    if in_place:
        return run_in_place(op, twin, keep)
    return run_pure(op, keep)


def _run_with_signs(op: Operation, keep: _KeepSigns, twin: Any, *, in_place: bool) -> Any:
    result = _run(op, keep, twin, in_place=in_place)
    # A weak reference in the book would die with this call, were it not for the graph.
    if keep.made is not None:
        op.pass_.book.of(result).signs = weakref.ref(keep.made)
    return result


@rule(F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)
def _relu(op: Operation) -> Any:
    in_place = op.func in (torch.relu_, Tensor.relu_) or bool(
        op.func is F.relu and op.argument(1, "inplace", False)
    )
    # What is not above zero lets nothing through, and NaN is not known to be that.
    return _run_with_signs(
        op, _KeepSigns(op, NOT_AT_MOST_ZERO, in_place=in_place), _relu_again, in_place=in_place
    )


def _relu_again(input: Tensor, *_: Any, **__: Any) -> Tensor:  # noqa: A002  # PyTorch's name
    return torch.relu(input)


@rule(F.leaky_relu, torch._C._nn.leaky_relu, torch._C._nn.leaky_relu_)
def _leaky_relu(op: Operation) -> Any:
    slope = op.argument(1, "negative_slope", 0.01)
    in_place = op.func is torch._C._nn.leaky_relu_ or bool(op.argument(2, "inplace", False))
    twin = functools.partial(_leaky_again, slope)
    if not slope >= 0:
        return _run(op, _as_any, twin, in_place=in_place)
    return _run_with_signs(
        op, _KeepSigns(op, ABOVE_ZERO, in_place=in_place), twin, in_place=in_place
    )


def _leaky_again(slope: float, input: Tensor, *_: Any, **__: Any) -> Tensor:  # noqa: A002
    return torch._C._nn.leaky_relu(input, slope)


def _as_any(_: Tensor) -> None:
    return None


def _bounds(op: Operation) -> tuple[float, float] | None:
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
        if self._with_bounds:
            inside = (saved > low).logical_and_(saved < high)
            if _clamp_passes_bounds():
                inside |= (saved == low) | (saved == high)
        else:
            # This kernel compares in float32, which a bound in fewer bits would not be equal to.
            values = saved.float() if saved.dtype.itemsize < 4 else saved
            inside = (values <= low).logical_or_(values >= high).logical_not_()
        return Bits(
            inside, NOT_ZERO, saved.dtype, low=outside, high=between, outer=self._outer
        )


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
    bounds = _bounds(op)
    in_place = op.func.__name__.endswith("_")
    keep: Keep = _as_any if bounds is None else _KeepInside(op, *bounds, with_bounds=True)
    return _run(op, keep, torch.clamp, in_place=in_place)


@rule(F.hardtanh, F.relu6, torch._C._nn.hardtanh, torch._C._nn.hardtanh_)
def _hardtanh(op: Operation) -> Any:
    low, high = _bounds(op) or (-1.0, 1.0)
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
