"""One operator of the forward pass, as a rule sees it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from gaslayers.lean.engine.form import Form
from gaslayers.lean.engine.provenance import Origin, Provenance
from gaslayers.lean.engine.recompute import Selection
from gaslayers.lean.engine.whole import Hooks
from gaslayers.lean.modules import PLAIN_KINDS
from gaslayers.lean.rerun import Precision

Keep: TypeAlias = Callable[[Tensor], Form | None]
"""In which form an operator's saved tensor is kept; None: as any other."""

SMALLEST_BYTES = 2**14
"""Smaller tensors are kept whole: the work on a form would cost more than it is worth. That
work takes about as long whatever the size."""


MUCH_LARGER = 4
"""An input is held on to for a result of so many times its bytes: it may be gone when one of the
two has to be kept."""


def is_small(tensor: Tensor) -> bool:
    """Whether a tensor is kept whole whatever made it: told by the memory that this would hold."""
    return tensor.untyped_storage().nbytes() < SMALLEST_BYTES


# Asked of each tensor several times.
_is_wrapped, _STRIDED = torch._C._functorch.is_functorch_wrapped_tensor, torch.strided


def is_known(tensor: Tensor) -> bool:
    """Whether a tensor has memory and a version to be told by."""
    if type(tensor) not in PLAIN_KINDS or _is_wrapped(tensor):
        return False
    is_strided = tensor.layout is _STRIDED and not tensor.is_nested
    # The last two say that values are others than those in memory.
    return is_strided and not (tensor.is_inference() or tensor.is_conj() or tensor.is_neg())


@dataclasses.dataclass(frozen=True)
class Pass:
    """What the rules know of a forward pass.

    Args:
        book: The origins of the tensors that live.
        outer: Hooks around the engine.
        selection: Which convolutions run again.
        norms_in_bands: Whether second derivatives of norms are computed some channels at a time:
            exact, but not to the bit.
    """

    book: Provenance
    outer: Hooks | None
    selection: Selection
    norms_in_bands: bool = False


class NoOriginError(Exception):
    """An argument of an operator is of a kind that the engine does not know."""


class Operation:
    """An operator and its arguments.

    Args:
        pass_: What is known of the forward pass that it is part of.
        func: The operator, as `torch.overrides` names it.
        args: Its arguments.
        kwargs: Those by keyword.
    """

    __slots__ = ("args", "func", "instead", "keep", "kwargs", "pass_")

    def __init__(
        self, pass_: Pass, func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]
    ) -> None:
        self.pass_, self.func, self.args, self.kwargs = pass_, func, args, kwargs
        self.instead: Callable[[], Any] | None = None
        """What runs in the operator's place and gives the same, with a backward pass of its own."""
        self.keep: Keep | None = None
        """While it runs, is asked first for the form of each tensor that it saves."""

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        """An argument by its place or its name."""
        return self.args[place] if place < len(self.args) else self.kwargs.get(name, default)

    def run(self, keep: Keep | None = None) -> Any:
        """Run the operator.

        Args:
            keep: Is asked first for the form of each tensor that it saves.
        """
        self.keep = keep
        try:
            return self.call() if self.instead is None else self.instead()
        finally:
            self.keep = self.instead = None

    def call(self) -> Any:
        """Call the operator itself."""
        return self.func(*self.args, **self.kwargs)

    @property
    def writes_elsewhere(self) -> bool:
        """Whether its result goes into a tensor that it is given for that."""
        return self.kwargs.get("out") is not None

    def origin(self, tensor: Tensor) -> Origin:
        """How an argument came to be. One of few bytes is held on to: it may be gone later.

        Raises:
            NoOriginError: The engine does not know such tensors.
        """
        if not is_known(tensor):
            raise NoOriginError
        origin = self.pass_.book.of(tensor)
        if not origin.is_parameter and origin.held is None and is_small(tensor):
            origin.held = self.pass_.book.keep(origin, self.pass_.outer, tensor)
        return origin

    def record(
        self,
        result: Any,
        operator: Callable[..., Tensor],
        inputs: Sequence[Origin],
        *,
        moved_bytes: int | None = None,
        prefers_inputs: bool = False,
        is_dear: bool = False,
        is_fresh: bool = False,
    ) -> Origin | None:
        """Write down that an operator gives the result back from its inputs.

        Args:
            result: A tensor; what is small, or none, is left out.
            operator: Takes tensors in the order of ``inputs``.
            inputs: The origins of what it reads, from before it ran.
            moved_bytes: What it reads and writes; None: inputs and result once.
            prefers_inputs: Whether to keep the inputs rather than the result where that is as much:
                others may need them, too.
            is_dear: Whether it takes as long as a convolution to run again.
            is_fresh: Whether it makes its result in new memory, whatever it is given.
        """
        if not isinstance(result, Tensor) or not is_known(result) or is_small(result):
            return None
        if moved_bytes is None:
            moved_bytes = result.nbytes + sum([origin.byte_count for origin in inputs])
        precision = None
        if torch._C._is_any_autocast_enabled():
            precision = Precision.of(result)
        origin = self.pass_.book.record(result, operator, inputs, moved_bytes, precision)
        origin.prefers_inputs, origin.is_dear, origin.is_fresh = prefers_inputs, is_dear, is_fresh
        most = origin.held_bytes // MUCH_LARGER
        origin.holds = [
            self.pass_.book.keep(read, self.pass_.outer)
            for read in inputs
            if read.held_bytes <= most and read.can_be_kept
        ]
        return origin


def again(op: Operation) -> tuple[Callable[..., Tensor], list[Origin]]:
    """The operator on its own arguments, as a function of the tensors among them.

    Arguments may be tensors, lists of tensors, or anything that is not changed later.
    """
    origins: list[Origin] = []
    args = [_hollow(value, op, origins) for value in op.args]
    kwargs = {name: _hollow(value, op, origins) for name, value in op.kwargs.items()}
    return functools.partial(_run_again, op.func, args, kwargs), origins


UNCHANGING = (
    bool, int, float, complex, str, slice, type(None), type(...), torch.Size, torch.dtype,
    torch.device, torch.layout, torch.memory_format, torch.SymInt,
)  # fmt: skip
"""Kinds of arguments that nobody changes between two calls."""

_UNCHANGING = frozenset(UNCHANGING)


class _Place(int):
    """Where a tensor stands among those that an operator is given again."""


# No function within a function calls itself: it would hold the tensors until the collector comes.


def _hollow(value: Any, op: Operation, origins: list[Origin]) -> Any:
    """An argument with places for its tensors, whose origins are added."""
    kind = type(value)
    if kind in _UNCHANGING:
        return value
    if isinstance(value, Tensor):
        origins.append(op.origin(value))
        return _Place(len(origins) - 1)
    if kind in (list, tuple):  # a copy: a list may be changed later
        return kind([_hollow(part, op, origins) for part in value])
    if not isinstance(value, UNCHANGING):
        raise NoOriginError
    return value


def _filled(value: Any, tensors: Sequence[Tensor]) -> Any:
    """The argument with tensors in their places."""
    if isinstance(value, _Place):
        return tensors[value]
    if type(value) in (list, tuple) and any(isinstance(part, _Place) for part in value):
        return type(value)([_filled(part, tensors) for part in value])
    return value


def _run_again(
    func: Callable[..., Any], args: list[Any], kwargs: dict[str, Any], *tensors: Tensor
) -> Any:
    return func(
        *[_filled(value, tensors) for value in args],
        **{name: _filled(value, tensors) for name, value in kwargs.items()},
    )
