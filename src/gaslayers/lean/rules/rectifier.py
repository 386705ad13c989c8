"""ReLU and LeakyReLU: one bit per element is kept, and the gradient is computed from bits."""

from __future__ import annotations

import dataclasses
import functools
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gaslayers.lean.engine.bits import Bits
from gaslayers.lean.engine.choice import form_again
from gaslayers.lean.engine.form import Form
from gaslayers.lean.engine.forms import Signs
from gaslayers.lean.engine.operation import Operation, is_known, is_small
from gaslayers.lean.engine.provenance import Origin, is_large
from gaslayers.lean.engine.table import rule
from gaslayers.lean.native.bits import (
    ABOVE_ZERO,
    NOT_AT_MOST_ZERO,
    Test,
    has_backward,
    rectify_backward,
)  # fmt: skip
from gaslayers.lean.native.door import Misfit
from gaslayers.lean.rules.pure import run_in_place, run_pure


@dataclasses.dataclass(frozen=True)
class _Rectifier:
    """One of the two.

    Args:
        test: Where all of the gradient passes; NaN as PyTorch's backward pass takes it.
        slope: What the gradient is multiplied by elsewhere.
        saves_result: Whether PyTorch saves the result for the backward pass, and not the input.
        again: The operator, not in place.
        over: The operator in place.
        backward: PyTorch's own, from the gradient and what was saved or its signs.
    """

    test: Test
    slope: float
    saves_result: bool
    again: Callable[..., Tensor]
    over: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]


def _relu_backward(grad: Tensor, saved: Tensor) -> Tensor:
    return torch.ops.aten.threshold_backward(grad, saved, 0)


# What is not above zero lets nothing through, and NaN is not known to be that.
_RELU = _Rectifier(NOT_AT_MOST_ZERO, 0.0, True, torch.relu, torch.relu_, _relu_backward)


@rule(F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)
def _relu(op: Operation) -> Any:
    in_place = op.func in (torch.relu_, Tensor.relu_) or bool(
        op.func is F.relu and op.argument(1, "inplace", False)
    )
    return _run(op, _RELU, in_place=in_place)


@rule(F.leaky_relu, torch._C._nn.leaky_relu, torch._C._nn.leaky_relu_)
def _leaky_relu(op: Operation) -> Any:
    slope = op.argument(1, "negative_slope", 0.01)
    in_place = op.func is torch._C._nn.leaky_relu_ or bool(op.argument(2, "inplace", False))
    kind = _leaky(slope, in_place)
    if slope >= 0:
        return _run(op, kind, in_place=in_place)
    return run_in_place(op, kind.again) if in_place else run_pure(op)


@functools.lru_cache(maxsize=64)
def _leaky(slope: float, in_place: bool) -> _Rectifier:
    return _Rectifier(
        ABOVE_ZERO,
        slope,
        in_place,
        functools.partial(_leaky_again, slope),
        functools.partial(torch._C._nn.leaky_relu_, negative_slope=slope),
        functools.partial(_leaky_backward, slope, in_place),
    )


def _leaky_again(slope: float, input: Tensor, *_: Any, **__: Any) -> Tensor:  # noqa: A002  (PyTorch's name)
    return torch._C._nn.leaky_relu(input, slope)


def _over(
    kind: _Rectifier, before: Callable[..., Tensor], dtype: torch.dtype, *tensors: Tensor
) -> Tensor:
    """The operator in place on what another one makes."""
    return kind.over(before(*tensors).to(dtype))


def _leaky_backward(slope: float, saves_result: bool, grad: Tensor, saved: Tensor) -> Tensor:
    return torch.ops.aten.leaky_relu_backward(grad, saved, slope, saves_result)


def _run(op: Operation, kind: _Rectifier, *, in_place: bool) -> Any:
    x = op.argument(0, "input")
    if not isinstance(x, Tensor) or not is_known(x):
        return op.run()
    if in_place:
        op.pass_.book.prepare_change(x)
        if is_small(x):
            return op.run()
    origin = op.origin(x)
    is_fused = _can_be_fused(x, kind, in_place=in_place)
    keep = _KeepSigns(op, origin, kind, in_place=in_place, are_read=is_fused)
    if is_fused:
        op.instead = functools.partial(_Rectify.apply, x, op, kind, keep.made, in_place)
    result = op.run(keep)
    made = keep.write_down(result)
    if keep.made.signs is not None:
        (made or op.pass_.book.of(result)).signs = keep.made.signs
    return result


def _can_be_fused(x: Tensor, kind: _Rectifier, *, in_place: bool) -> bool:
    """Whether a backward pass of our own can take the place of PyTorch's.

    Of a leaf autograd wants values back. In place on a view it has rules that are its own.
    """
    if not x.requires_grad or x.is_leaf or not is_large(x.nbytes) or not has_backward(x):
        return False
    if kind.slope == 0.0 and kind is not _RELU:  # a negative gradient times zero is -0.0
        return False
    return not (in_place and x._is_view())


def _has_autocast(origin: Origin) -> bool:
    """Whether it is on, or was when a tensor was made."""
    return origin.precision is not None or torch._C._is_any_autocast_enabled()


class _Made:
    """What was kept of a map's signs: weak, since a function lets go of its context later."""

    __slots__ = ("signs",)

    def __init__(self) -> None:
        self.signs: weakref.ref[Signs] | None = None

    @property
    def bits(self) -> Bits:
        """The bits."""
        signs = None if self.signs is None else self.signs()
        if signs is None or signs.bits is None:
            raise AssertionError("ReLU: there are no bits")
        return signs.bits


class _KeepSigns:
    """Keeps of a saved map on which side of zero its values are.

    Where the map that PyTorch saves is kept anyway, or a map that is not large can be made again of
    what is, nothing more is.

    Args:
        op: The operator.
        origin: How its input came to be.
        kind: Which of the two it is.
        in_place: Whether it writes into its input.
        are_read: As for `Signs`.
    """

    def __init__(
        self, op: Operation, origin: Origin, kind: _Rectifier, *, in_place: bool, are_read: bool
    ) -> None:
        self._op, self._kind, self._in_place, self._are_read = op, kind, in_place, are_read
        self._input = origin
        self._result: Origin | None = None
        self.made = _Made()

    def write_down(self, result: Tensor) -> Origin | None:
        """Write down how the result came to be, once."""
        if self._result is None:
            origin, kind, before = self._input, self._kind, self._input.operator
            if self._in_place and before and origin.is_fresh and not _has_autocast(origin):
                # Nobody else has the input, which is written over again.
                self._result = self._op.record(
                    result,
                    functools.partial(_over, kind, before, result.dtype),
                    origin.inputs,
                    moved_bytes=origin.moved_bytes + result.nbytes,
                    is_dear=origin.is_dear,
                )
            elif before or not self._in_place:  # else its input is lost
                self._result = self._op.record(result, kind.again, [origin])
        return self._result

    def __call__(self, saved: Tensor) -> Form | None:
        if is_small(saved) or not saved.is_floating_point():
            return None
        origin: Origin | None = self._input
        pass_ = self._op.pass_
        if self._kind.saves_result:
            origin = None if is_large(saved.nbytes) else self.write_down(saved)
        elif self._input.kept is not None:
            return self._input.kept
        if origin is not None and not is_large(saved.nbytes):
            form = form_again(pass_.book, pass_.outer, origin, most_bytes=0)
            if form is not None:
                return form
        bits = Bits(saved, self._kind.test, saved.dtype, outer=pass_.outer)
        signs = Signs(bits, are_read=self._are_read)
        self.made.signs = weakref.ref(signs)
        return signs


class _Rectify(torch.autograd.Function):
    """The operator, with a backward pass that reads bits in one pass over the gradient.

    PyTorch's own reads a map, which would have to be made of the bits. Where it has to be, as for
    second derivatives, for gradients in another memory format or for a batch of gradients, it runs.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        op: Operation,
        kind: _Rectifier,
        made: _Made,
        in_place: bool,
    ) -> Tensor:
        """Call the operator, and save what it saves."""
        result: Tensor = op.call()
        if in_place:
            ctx.mark_dirty(x)
        ctx.set_materialize_grads(False)
        ctx.kind, ctx.made = kind, made
        ctx.save_for_backward(result if kind.saves_result else x)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> Any:
        """Let gradients through."""
        (saved,) = ctx.saved_tensors
        if grad is None:
            return (None,) * 5
        return _gradient(ctx, grad, saved), None, None, None, None


class _RectifyBackward(torch.autograd.Function):
    """The gradient, which is linear in the one that it is made of.

    By the saved map its derivative is zero. PyTorch hands on a map of zeros, which lives until the
    other gradients of that map are there; this one takes no memory.
    """

    @staticmethod
    def forward(ctx: Any, grad: Tensor, saved: Tensor, kind: _Rectifier) -> Tensor:
        """Compute it as PyTorch's operator does."""
        ctx.kind = kind
        ctx.save_for_backward(saved)
        return kind.backward(grad, saved)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        """Let a gradient of the gradient through."""
        (saved,) = ctx.saved_tensors
        made = _RectifyBackward.apply if torch.is_grad_enabled() else _apply
        zeros = torch.zeros((), dtype=saved.dtype, device=saved.device).expand(saved.shape)
        return made(grad, saved, ctx.kind), zeros, None


def _apply(grad: Tensor, saved: Tensor, kind: _Rectifier) -> Tensor:
    return kind.backward(grad, saved)


def _gradient(ctx: Any, grad: Tensor, saved: Tensor) -> Tensor:
    kind: _Rectifier = ctx.kind
    if saved.is_floating_point():
        # Of a batch of gradients PyTorch's operator knows what to do.
        is_batch = torch._C._functorch.is_functorch_wrapped_tensor(grad)
        if torch.is_grad_enabled() and not is_batch:
            made: Tensor = _RectifyBackward.apply(grad, saved, kind)
            return made
        return kind.backward(grad, saved)
    bits: Bits = ctx.made.bits
    if grad.stride() == bits.stride:
        try:
            return rectify_backward(grad, saved, kind.slope)
        except Misfit:
            pass
    return kind.backward(grad, bits.restore())
