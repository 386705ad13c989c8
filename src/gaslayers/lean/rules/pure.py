"""Operators whose result depends on their arguments alone: run again, they give the same bits."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gaslayers.lean.engine.operation import Keep, Operation, again, is_known
from gaslayers.lean.engine.table import rule


def run_pure(
    op: Operation,
    keep: Keep | None = None,
    *,
    prefers_inputs: bool = False,
    is_dear: bool = False,
) -> Any:
    """Run an operator and write down that running it again gives its result, or each of them.

    Args:
        op: The operator.
        keep: As for `Operation.run`.
        prefers_inputs: As for `Operation.record`.
        is_dear: Likewise.
    """
    if op.writes_elsewhere:
        return op.run()
    operator, inputs = again(op)
    result = op.run(keep)
    if isinstance(result, Tensor):
        if not any(result is value for value in op.args):
            op.record(result, operator, inputs, prefers_inputs=prefers_inputs, is_dear=is_dear)
    elif isinstance(result, list | tuple):
        for place, part in enumerate(result):
            op.record(part, functools.partial(_part, operator, place), inputs)
    return result


def run_in_place(op: Operation, twin: Callable[..., Tensor], keep: Keep | None = None) -> Any:
    """The same for one that writes into its first argument.

    What was there before can be had again only if an operator that is known made it.

    Args:
        op: The operator.
        twin: Computes the same into a new tensor.
        keep: As for `Operation.run`.
    """
    target = op.args[0] if op.args else op.kwargs.get("input")
    known = None
    if isinstance(target, Tensor) and is_known(target):
        op.pass_.book.prepare_change(target)
        known = op.pass_.book.find(target)
    if known is None or known.operator is None:
        return op.run(keep)
    operator, inputs = again(Operation(op.pass_, twin, op.args, op.kwargs))
    result = op.run(keep)
    op.record(result, operator, inputs)
    return result


def _part(operator: Callable[..., Any], place: int, *tensors: Tensor) -> Tensor:
    part: Tensor = operator(*tensors)[place]
    return part


def named(names: Iterable[str], *homes: Any) -> list[Callable[..., Any]]:
    """The functions of these names in these places."""
    found = [getattr(home, name, None) for home in homes for name in names]
    return [function for function in found if function is not None]


def add_pure(*names: str) -> None:
    """Let operators of these names, and their forms in place, be known as pure."""
    homes = (torch, Tensor, F, torch._C._nn)
    rule(*named(names, *homes))(run_pure)
    for name in names:
        twin = getattr(torch, name, None) or getattr(Tensor, name, None)
        if twin is not None:
            in_place = functools.partial(run_in_place, twin=twin)
            rule(*named([f"{name}_"], *homes))(in_place)


def add_in_place(twins: dict[Callable[..., Any], Callable[..., Any]]) -> None:
    """Let these functions, which write into their first argument, be known by their twins."""
    for function, twin in twins.items():
        rule(function)(functools.partial(run_in_place, twin=twin))
