"""The tape: which operators stand between an input and a score, and their linear twins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

import gaslayers.lean.rules
import gaslayers.penalties.twins  # noqa: F401  # each fills its table
from gaslayers._watching import takes_part
from gaslayers.lean.engine.context import Saving, is_plain_kind
from gaslayers.lean.engine.form import Form
from gaslayers.lean.modules import tensors_of
from gaslayers.lean.rerun import Precision
from gaslayers.penalties.call import NO_TANGENT, Call, Twin
from gaslayers.penalties.entries import INPUT, Entry
from gaslayers.penalties.table import TWINS

_NONE = -1
"""In place of the number of a result that has no tangent."""

_UNKNOWN = "has no rule that says how it acts on tangents"
_SMOOTH = "is not linear in what depends on the input, not even piece by piece"

_HOOK = "may change gradients on their way"

Node: TypeAlias = torch.autograd.graph.Node

Edge: TypeAlias = tuple[Node, int]
"""A place in autograd's graph: a node, and which of its results."""


@takes_part  # layers with functions of their own see it, and run plain
class Tape(Saving):
    """Saves lean, and writes a tape until an operator has no linear twin.

    A tensor is known by its place in autograd's graph, so that nothing that depends on the input
    can be taken for a constant: neither what is changed in place, nor what functions make that
    this mode does not see.

    Args:
        x: The penalised input, a leaf.
    """

    def __init__(self, x: Tensor) -> None:
        super().__init__(norms_in_bands=True)
        self.entries: list[Entry] = []
        self.reason: str | None = None
        """Why the tape ended; None: it did not."""
        self._x = x
        self._numbers: dict[Edge, int] = {}
        self._known: set[Node] = set()
        self._clean: set[Node] = set()
        self._made: dict[Node, str] = {}
        self._count = 1
        self._forms: list[Form] | None = None

    def pack(self, tensor: Tensor) -> Form:
        """As the engine does; rules for twins read the forms."""
        form = super().pack(tensor)
        if self._forms is not None:
            self._forms.append(form)
        return form

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operator, and write down its twin."""
        kwargs = kwargs or {}
        if self.reason is not None or not torch.is_grad_enabled():
            return super().__torch_function__(func, types, args, kwargs)
        rule = TWINS.get(func)
        if rule is None or not all(map(is_plain_kind, types)):
            result = super().__torch_function__(func, types, args, kwargs)
            self.meet(func, args, kwargs, result)
            return result
        leaves = tensors_of((args, kwargs))
        numbers = self._numbers_of(leaves)
        if not numbers:
            return super().__torch_function__(func, types, args, kwargs)

        def run() -> tuple[Any, list[Form]]:
            before, self._forms = self._forms, []
            try:
                return super(Tape, self).__torch_function__(func, types, args, kwargs), self._forms
            finally:
                self._forms = before

        call = Call(func, args, kwargs, numbers, run)
        twin = None if kwargs.get("out") is not None else rule(call)
        result = call.result if call.has_run else call.run()
        self._write(func, twin, result, leaves, numbers)
        return result

    def meet(self, func: Callable[..., Any], args: Any, kwargs: Any, result: Any) -> None:
        """An operator without a rule has run: who uses what it made is told its name."""
        if func is Tensor.register_hook and self._numbers_of(tensors_of((args, kwargs))):
            self.refuse(operator_name(func), _HOOK, [])
        if isinstance(result, Tensor) and result.grad_fn is not None:
            self._made.setdefault(result.grad_fn, operator_name(func))

    def outputs(self, scores: Sequence[Tensor]) -> list[int]:
        """The numbers of what is differentiated; where one is not known, the tape ends."""
        found = {} if self.reason is not None else self._numbers_of(scores)
        return [found[id(score)] for score in scores if id(score) in found]

    def close(self, outputs: Sequence[int]) -> tuple[list[Entry], list[Tensor]]:
        """Let go of what the first pass needed alone.

        Args:
            outputs: The numbers of what is differentiated.

        Returns:
            The entries on the way there; and what only shifts values, but gets zeros of autograd.
        """
        entries, self.entries = self.entries, []
        self._numbers, self._known, self._clean, self._made = {}, set(), set(), {}
        needed: dict[int, bool] = dict.fromkeys(outputs, False)  # whether zeros come back to it
        kept: list[Entry] = []
        shifts: list[Tensor] = []
        for entry in reversed(entries):
            readers = [needed[number] for number in entry.writes if number in needed]
            if not readers:
                continue
            kept.append(entry)
            if any(readers):
                shifts += entry.shifts
            for number in entry.twin.reads:
                before = needed.get(number, False)
                needed[number] = before or any(readers) or entry.twin.sends_zeros
        return kept[::-1], shifts

    def _numbers_of(self, leaves: Sequence[Tensor]) -> dict[int, int]:
        """By identity, the numbers of those that depend on the input; none where the tape ends."""
        pairs = [(id(leaf), self.number(leaf)) for leaf in leaves]
        if self.reason is not None:
            return {}
        return {identity: number for identity, number in pairs if number is not None}

    def number(self, tensor: Tensor) -> int | None:
        """The number of a tensor that depends on the input; None: it does not."""
        if not tensor.requires_grad:
            return None
        node = tensor.grad_fn
        if node is None:
            return INPUT if tensor is self._x else None
        number = self._numbers.get((node, tensor.output_nr))
        if number is not None:
            return number
        hidden = self._find_hidden(node)
        return None if hidden is None else self.refuse(hidden, _UNKNOWN, [(node, tensor.output_nr)])

    def _find_hidden(self, node: Node) -> str | None:
        """The operator by which a node of autograd's graph depends on the input; None: it does not.

        Such a node was made by an operator without a rule, by a function that no mode sees, or
        anew, as of a view of what was changed in place.
        """
        if node in self._known:
            return _name(node)
        if node in self._clean:
            return None
        rest, seen = [node], {node}
        while rest:
            above = rest.pop()
            for below, _ in above.next_functions:
                if below is None or below in seen or below in self._clean:
                    continue
                if below in self._known or getattr(below, "variable", None) is self._x:
                    return self._made.get(node) or self._made.get(above) or _name(above)
                seen.add(below)
                rest.append(below)
        self._clean |= seen
        return None

    def refuse(self, operator: str, reason: str, edges: Sequence[Edge | None]) -> int | None:
        """An operator has no linear twin: the tape ends. The number of what it made is none."""
        del edges
        if self.reason is None:
            self.reason = f"{operator} {reason}"
            self.entries = []
        return None

    def _write(
        self,
        func: Callable[..., Any],
        twin: Twin | None,
        result: Any,
        leaves: Sequence[Tensor],
        numbers: dict[int, int],
    ) -> None:
        made = [result] if isinstance(result, Tensor) else result
        made = list(made) if isinstance(made, tuple | list) else []
        edges = [_edge(tensor) for tensor in made]
        if all(edge is None or edge in self._numbers for edge in edges):
            return  # it made no tensor, or gave back the one that it got
        if twin is NO_TANGENT:
            return
        if twin is None:
            self.refuse(operator_name(func), _SMOOTH, edges)
            return
        constants = {id(tensor) for tensor in twin.constants}
        shifts = tuple(
            leaf
            for leaf in leaves
            if leaf.requires_grad
            and id(leaf) not in numbers
            and id(leaf) not in constants
            and all(leaf is not tensor for tensor in made)
        )
        precision = None
        if torch._C._is_any_autocast_enabled():
            precision = Precision.of(made[0])
        writes = tuple(_NONE if edge is None else self.add(edge) for edge in edges)
        forms = tuple(
            None if edge is None else (tensor.shape, tensor.dtype)
            for tensor, edge in zip(made, edges, strict=True)
        )
        self.entries.append(Entry(twin, writes, forms, shifts, precision))

    def add(self, edge: Edge) -> int:
        """Give a tensor a number."""
        self._numbers[edge] = number = self._count
        self._known.add(edge[0])
        self._count += 1
        return number


def _edge(tensor: Any) -> Edge | None:
    if not isinstance(tensor, Tensor) or not tensor.requires_grad or tensor.grad_fn is None:
        return None
    return tensor.grad_fn, tensor.output_nr


def _name(node: Node) -> str:
    return node.name().rstrip("0123456789").removesuffix("Backward")


def operator_name(func: Callable[..., Any]) -> str:
    """What people call it."""
    return getattr(func, "__name__", str(func)).strip("_")
