"""The first counting engine: fvcore's walk over a trace, with handles for what fvcore lacks.

The one file that imports fvcore, and not before the first count: loading it takes time and warns.
"""

from __future__ import annotations

import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from gaslayers.accounting._handles import Handle, Values, all_handles
from gaslayers.accounting._parts import CalledParts, named_parts
from gaslayers.accounting._sandbox import Call
from gaslayers.lean.modules import tensors_of

_SCOPE = "part:"  # before the names of modules in the trace; the tracer's own have other names

# What the module raises, a tracer that cannot follow, or a handle that meets what it does not know.
_TRACE_ERRORS = (RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError)

_CONVOLUTIONS = {f"conv{kind}{n}d" for kind in ("", "_transpose") for n in (1, 2, 3)}

Key: TypeAlias = tuple[str, str, bool]
"""Operator, quantity, and whether the inputs have a part in it."""


@dataclass(frozen=True)
class Traced:
    """What the trace of one call holds, by module name, each with its descendants' share."""

    counts: Mapping[str, Counter[Key]]
    unsupported: Counter[str]
    uncalled: tuple[str, ...]


class Untraceable(RuntimeError):  # noqa: N818  (says what the module is, not what went wrong)
    """The tracer or a handle could not follow the call."""

    def __init__(self, place: str, reason: Exception) -> None:
        self.place = place
        self.reason = str(reason).partition("\n")[0].removesuffix(".")
        super().__init__(f"{place!r}: {self.reason}")


class Refused(Exception):  # noqa: N818  (likewise)
    """An operator has multiply-adds, but not as many as its shapes say."""


class _Anchors(TorchFunctionMode):
    """Keep every operator in the trace: what no output depends on has run all the same.

    The tracer drops such operators; an empty tensor made from each result holds them in place.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tensors: list[Tensor] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") in _CONVOLUTIONS and result.is_complex():
            raise Refused(f"complex {func.__name__}")  # made of three real ones
        if not torch._C._are_functorch_transforms_active():  # nothing may escape from vmap
            floats = (tensor for tensor in tensors_of(result) if tensor.is_floating_point())
            self.tensors.extend(tensor.new_empty(0) for tensor in floats)
        return result


class _Traceable(nn.Module):
    """The call as a function from tensors to tensors: the tracer knows few other types."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self.module = call.module
        self.leaves, self.spec = pytree.tree_flatten((call.args, call.kwargs))
        self.positions = [i for i, leaf in enumerate(self.leaves) if isinstance(leaf, Tensor)]
        self.inputs = tuple(self.leaves[position] for position in self.positions)
        self.called: set[nn.Module] = set()
        self.running = [""]
        self.parts = CalledParts(call.module)
        for part in self.module.modules():
            part.register_forward_pre_hook(self._enter)
            part.register_forward_hook(self._leave)

    def _enter(self, part: nn.Module, _args: Any) -> None:
        self.called.add(part)
        self.running.append(self.parts.enter(part, self.running[-1]))
        if (state := torch._C._get_tracing_state()) is not None:
            state.push_scope(_SCOPE + self.running[-1])

    def _leave(self, _part: nn.Module, _args: Any, _output: Any) -> None:
        self.running.pop()
        if (state := torch._C._get_tracing_state()) is not None:
            state.pop_scope()

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        leaves = list(self.leaves)
        for position, tensor in zip(self.positions, tensors, strict=True):
            leaves[position] = tensor
        args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        with _Anchors() as anchors:
            output = self.module(*args, **kwargs)
        return (*tensors_of(output), *anchors.tensors)

    def uncalled(self) -> Iterator[str]:
        for name, part in self.module.named_modules():
            is_container = type(part).forward is nn.Module.forward
            if part not in self.called and not is_container:
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


class _Collector:
    """Keep what each node costs, for the module that it was called in and all that hold it.

    Args:
        dependence: Tells what the inputs have a part in from what they have not.
        names: Of all modules.
    """

    def __init__(self, dependence: _Dependence, names: Iterable[str]) -> None:
        self.counts: dict[str, Counter[Key]] = {name: Counter() for name in names}
        self._dependence = dependence

    def collect(self, handle: Handle) -> Any:
        """The handle in a form that keeps what it finds."""

        def count(inputs: Values, outputs: Values) -> Counter[Key]:
            grows = self._dependence(outputs[0])
            found = {(*key, grows): cost for key, cost in handle(inputs, outputs).items()}
            place = _place(outputs[0].node())
            for holder in {"", *(place[:end] for end in _ends(place))}:
                self.counts[holder].update(found)
            return Counter(found)

        return count


def _place(node: Any) -> str:
    """The name of the innermost module that was running, by the scopes that were pushed."""
    scopes = [scope for scope in node.scopeName().split("/") if scope.startswith(_SCOPE)]
    return scopes[-1].removeprefix(_SCOPE) if scopes else ""


def _ends(name: str) -> list[int]:
    """Where the names of the modules that hold this one end within its own."""
    return [i for i, letter in enumerate(name) if letter == "."] + [len(name)]


@contextmanager
def _functions_inlined() -> Iterator[None]:
    """Run the forward of custom autograd functions in the open, where the tracer sees it."""
    original = torch.autograd.Function.__dict__["apply"]
    unsplit = torch.autograd.Function.setup_context
    thread = threading.get_ident()

    def apply(function: type[Any], *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != thread:  # somebody else's training goes on
            return original.__get__(None, function)(*args, **kwargs)
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
    """Trace the call and count its operators.

    Raises:
        Untraceable: Where anything raises, the module itself included.
    """
    with warnings.catch_warnings():
        # fvcore uses what torch deprecates; a trace warns of every branch on a size.
        warnings.simplefilter("ignore")
        from fvcore.nn import FlopCountAnalysis

        traceable = _Traceable(call)
        analysis = FlopCountAnalysis(traceable, traceable.inputs)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        names = [name for name, _ in named_parts(call.module)]
        collector = _Collector(_Dependence(len(traceable.inputs)), names)
        for name, handle in all_handles(analysis._op_handles).items():
            analysis._op_handles.pop(name, None)  # an ignored operator must have no handle
            analysis.set_op_handle(name, None if handle is None else collector.collect(handle))
        try:
            with _functions_inlined():
                analysis.total()
        except _TRACE_ERRORS as error:
            raise Untraceable(traceable.running[-1], error) from error
    return Traced(
        counts=collector.counts,
        unsupported=Counter(
            {
                name: calls
                for name, calls in analysis.unsupported_ops().items()
                # A function, whose inside is in the trace, or an annotation for a profiler.
                if not name.startswith(("prim::PythonOp", "profiler::"))
            }
        ),
        uncalled=tuple(traceable.uncalled()),
    )
