"""The first counting engine: fvcore's walk over a trace, with handles for what fvcore lacks.

The one file that imports fvcore, and not before the first count: loading it takes time and warns.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.utils import _pytree as pytree

from gaslayers.accounting._handles import Handle, Key, elementwise, multiply_adds, own_handles
from gaslayers.accounting._sandbox import Call

ROOT = "module"  # the counted module's name inside the traced one

_MULTIPLY_ADDS = {"addmm": "addmm", "bmm": "bmm", "_convolution": "conv", "linear": "linear"}


@dataclass(frozen=True)
class Traced:
    """What the trace of one call holds, by module name, each with its descendants' share."""

    counts: dict[str, Counter[Key]]
    unsupported: Counter[str]


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


class _Traceable(nn.Module):
    """The call as a function of its tensors alone: the tracer knows few other types."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self.module = call.module
        leaves, self.spec = pytree.tree_flatten((call.args, call.kwargs))
        self.leaves = leaves
        self.positions = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        leaves = list(self.leaves)
        for position, tensor in zip(self.positions, tensors, strict=True):
            leaves[position] = tensor
        args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        # The tracer drops what no output depends on, yet a dead branch has run and has its cost.
        reached: list[Tensor] = []
        for module in self.module.modules():
            if next(module.parameters(recurse=False), None) is not None:
                module.register_forward_hook(
                    lambda _module, _args, output: reached.extend(_tensors(output))
                )
        reached.extend(_tensors(self.module(*args, **kwargs)))
        return tuple(reached)


@contextmanager
def _functions_inlined() -> Iterator[None]:
    """Let the forward of a custom autograd function run in the open, where the tracer sees it."""
    original = torch.autograd.Function.__dict__["apply"]

    def apply(function: type[Any], *args: Any, **kwargs: Any) -> Any:
        context: Any = FunctionCtx()
        context.needs_input_grad = tuple(isinstance(a, Tensor) and a.requires_grad for a in args)
        splits = function.setup_context is not torch.autograd.Function.setup_context
        with torch.no_grad():  # as in the real one
            return function.forward(*(args if splits else (context, *args)), **kwargs)

    torch.autograd.Function.apply = classmethod(apply)  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        torch.autograd.Function.apply = original  # type: ignore[method-assign]


def _handles(defaults: dict[str, Callable[..., Any]]) -> dict[str, Handle | None]:
    """fvcore's own handles with our keys, ours over them."""
    table: dict[str, Handle | None] = {}
    for name, handle in defaults.items():
        operator = name.removeprefix("aten::")
        if operator in _MULTIPLY_ADDS:
            table[name] = multiply_adds(_MULTIPLY_ADDS[operator], handle)
        else:
            table[name] = elementwise(operator, handle)
    return table | own_handles()


def trace(call: Call) -> Traced:
    """Trace the call and count its operators."""
    with warnings.catch_warnings():
        # At import fvcore uses what torch deprecates; a trace warns of every branch on a size.
        warnings.simplefilter("ignore")
        from fvcore.nn import FlopCountAnalysis

        traceable = _Traceable(call)
        tensors = tuple(traceable.leaves[position] for position in traceable.positions)
        analysis = FlopCountAnalysis(traceable, tensors)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        handles = _handles(dict(analysis._op_handles))
        analysis.clear_op_handles()
        analysis.set_op_handle(**handles)
        with _functions_inlined():
            counts = analysis.by_module_and_operator()
            unsupported = analysis.unsupported_ops()
    prefix = f"{ROOT}."
    named = {
        name.removeprefix(ROOT).removeprefix("."): counted
        for name, counted in counts.items()
        if name == ROOT or name.startswith(prefix)
    }
    return Traced(counts=named, unsupported=unsupported)
