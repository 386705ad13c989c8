"""One operator of the forward pass, as a rule for its linear twin sees it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from gaslayers.lean.engine.form import Form
from gaslayers.lean.engine.operation import UNCHANGING
from gaslayers.lean.engine.version import changed


@dataclasses.dataclass(frozen=True)
class Twin:
    """What an operator does to tangents: a linear function.

    Args:
        run: Takes the tangents of what is read, and gives the tangent of each result.
        reads: The numbers of the tensors whose tangents are read.
        constants: Other tensors that it reads, such as weights with their graph.
        sends_zeros: Whether the second derivative by autograd gives zeros, and not nothing, to
            whatever the operator's input was made of.
    """

    run: Callable[..., Any]
    reads: tuple[int, ...]
    constants: tuple[Tensor, ...] = ()
    sends_zeros: bool = False


NO_TANGENT = Twin(lambda: (), ())
"""Of an operator whose result does not depend on the penalised input, whatever it reads."""


class Call:
    """An operator, its arguments, and which of them depend on the penalised input.

    Args:
        func: The operator, as `torch.overrides` names it.
        args: Its arguments.
        kwargs: Those by keyword.
        numbers: By the identity of each tensor among the arguments that depends on the input, the
            number under which the tape knows it.
        call: Runs the operator, and gives what autograd saved in which form.
    """

    def __init__(
        self,
        func: Callable[..., Any],
        args: Sequence[Any],
        kwargs: dict[str, Any],
        numbers: dict[int, int],
        call: Callable[[], tuple[Any, list[Form]]],
    ) -> None:
        self.func, self.args, self.kwargs = func, args, kwargs
        self._numbers, self._call = numbers, call
        self.has_run = False
        self.result: Any = None
        self.forms: list[Form] = []

    def run(self) -> Any:
        """Run the operator, once."""
        self.has_run = True
        self.result, self.forms = self._call()
        return self.result

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        """An argument by its place or its name."""
        return self.args[place] if place < len(self.args) else self.kwargs.get(name, default)

    def number(self, value: Any) -> int | None:
        """The number of a tensor that depends on the penalised input; None: it does not."""
        return self._numbers.get(id(value)) if isinstance(value, Tensor) else None

    def depends(self, *values: Any) -> bool:
        """Whether one of these depends on the penalised input."""
        return any(self.number(value) is not None for value in values)

    def of(self, run: Callable[[Tensor], Any], x: Tensor, *, sends_zeros: bool = False) -> Twin:
        """A twin that reads the tangent of one tensor, and weights of no kind."""
        number = self.number(x)
        if number is None:
            raise AssertionError("Call: a twin of what does not depend on the input")
        return Twin(run, (number,), sends_zeros=sends_zeros)

    def again(
        self,
        func: Callable[..., Any] | None = None,
        args: Sequence[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        *,
        sends_zeros: bool = False,
    ) -> Twin | None:
        """The operator on tangents, in the place of each tensor that depends on the input.

        Args:
            func: Another operator; None: the same.
            args: Its arguments; None: the same.
            kwargs: Likewise.
            sends_zeros: As for `Twin`.

        Returns:
            None where an argument is of a kind that may be changed before it is read again.
        """
        given = (self.args if args is None else args, self.kwargs if kwargs is None else kwargs)
        leaves, structure = pytree.tree_flatten((list(given[0]), dict(given[1])))
        places: list[int] = []
        reads: list[int] = []
        constants: list[tuple[int, Tensor]] = []
        for place, leaf in enumerate(leaves):
            number = self.number(leaf)
            if number is not None:
                places.append(place)
                reads.append(number)
                leaves[place] = None
            elif isinstance(leaf, Tensor):
                constants.append((place, leaf))
            elif not isinstance(leaf, UNCHANGING):
                return None
        versions = [tensor._version for _, tensor in constants]
        run = func or self.func

        def twin(*tangents: Tensor) -> Any:
            for (_, tensor), version in zip(constants, versions, strict=True):
                if tensor._version != version:
                    raise changed(tensor.type(), tensor.shape, tensor._version, version)
            filled = list(leaves)
            for place, tangent in zip(places, tangents, strict=True):
                filled[place] = tangent
            twin_args, twin_kwargs = pytree.tree_unflatten(filled, structure)
            return run(*twin_args, **twin_kwargs)

        return Twin(twin, tuple(reads), tuple(tensor for _, tensor in constants), sends_zeros)


def zeros_like(tensor: Tensor) -> Tensor:
    """The tangent of what does not depend on the input: zeros that take no memory."""
    return torch.zeros((), dtype=tensor.dtype, device=tensor.device).expand(tensor.shape)
