"""The first counting engine: fvcore's walk over a trace, with handles for what fvcore lacks.

The one file that imports fvcore, and not before the first count: loading it takes time and warns.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.utils import _pytree as pytree

from gaslayers.accounting._handles import Handle, Values, all_handles
from gaslayers.accounting._sandbox import Call, tensors_of

_ROOT = "module"  # the counted module's name inside the traced one

Key: TypeAlias = tuple[str, str, bool]
"""Operator, quantity, and whether the inputs have a part in it."""


@dataclass(frozen=True)
class Traced:
    """What the trace of one call holds, by module name, each with its descendants' share."""

    counts: Mapping[str, Counter[Key]]
    unsupported: Counter[str]
    uncalled: tuple[str, ...]


class _Traceable(nn.Module):
    """The call as a function from tensors to tensors: the tracer knows few other types."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self.module = call.module
        self.leaves, self.spec = pytree.tree_flatten((call.args, call.kwargs))
        self.positions = [i for i, leaf in enumerate(self.leaves) if isinstance(leaf, Tensor)]
        self.inputs = tuple(self.leaves[position] for position in self.positions)
        self.called: set[str] = set()
        self.outputs: list[Tensor] = []
        for name, part in self.module.named_modules():
            part.register_forward_hook(self._observer(name))

    def _observer(self, name: str) -> Any:
        def observe(part: nn.Module, _args: Any, output: Any) -> None:
            self.called.add(name)
            # The tracer drops what no output depends on; but a dead branch has run, at its cost.
            if part._parameters or part is self.module:
                self.outputs.extend(tensors_of(output))

        return observe

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        leaves = list(self.leaves)
        for position, tensor in zip(self.positions, tensors, strict=True):
            leaves[position] = tensor
        args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        self.module(*args, **kwargs)
        return tuple(self.outputs)

    def uncalled(self) -> Iterator[str]:
        for name, part in self.module.named_modules():
            is_container = type(part).forward is nn.Module.forward
            if name not in self.called and not is_container:
                yield name


class _Dependence:
    """Which values of a trace the inputs have a part in; graph inputs past them are weights."""

    def __init__(self, inputs: int) -> None:
        self._inputs = inputs
        self._known: dict[str, bool] = {}

    def __call__(self, value: Any) -> bool:
        name = value.debugName()
        if name not in self._known:
            node = value.node()
            if node.kind() == "prim::Param":
                for i, entry in enumerate(node.outputs()):
                    self._known[entry.debugName()] = i < self._inputs
            else:
                self._known[name] = any(map(self, node.inputs()))
        return self._known[name]

    def split(self, handle: Handle) -> Any:
        """Let the handle tell what the inputs have a part in from what they have not."""

        def count(inputs: Values, outputs: Values) -> Counter[Key]:
            grows = self(outputs[0])
            return Counter({(*key, grows): cost for key, cost in handle(inputs, outputs).items()})

        return count


@contextmanager
def _functions_inlined() -> Iterator[None]:
    """Run the forward of custom autograd functions in the open, where the tracer sees it."""
    original = torch.autograd.Function.__dict__["apply"]
    unsplit = torch.autograd.Function.setup_context

    def apply(function: type[Any], *args: Any, **kwargs: Any) -> Any:
        context: Any = FunctionCtx()
        context.needs_input_grad = tuple(isinstance(a, Tensor) and a.requires_grad for a in args)
        leading = (context,) if function.setup_context is unsplit else ()
        with torch.no_grad():  # as when it is applied
            return function.forward(*leading, *args, **kwargs)

    torch.autograd.Function.apply = classmethod(apply)
    try:
        yield
    finally:
        torch.autograd.Function.apply = original


def trace(call: Call) -> Traced:
    """Trace the call and count its operators."""
    with warnings.catch_warnings():
        # fvcore uses what torch deprecates; a trace warns of every branch on a size.
        warnings.simplefilter("ignore")
        from fvcore.nn import FlopCountAnalysis

        traceable = _Traceable(call)
        analysis = FlopCountAnalysis(traceable, traceable.inputs)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        dependence = _Dependence(len(traceable.inputs))
        for name, handle in all_handles(analysis._op_handles).items():
            analysis._op_handles.pop(name, None)  # an ignored operator must have no handle
            analysis.set_op_handle(name, None if handle is None else dependence.split(handle))
        with _functions_inlined():
            counts = analysis.by_module_and_operator()
    names = [name for name, _ in call.module.named_modules()]
    return Traced(
        counts={name: counts[f"{_ROOT}.{name}".removesuffix(".")] for name in names},
        unsupported=analysis.unsupported_ops(),
        uncalled=tuple(traceable.uncalled()),
    )
