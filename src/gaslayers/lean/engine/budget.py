"""A budget of bytes: which convolutions run again is decided from a first pass, and kept per shape.

In the first pass all of them may run again, but of two in a row one. What was dropped and what was
kept then tells what a pass would keep that drops others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from gaslayers._checks import bad_value
from gaslayers.lean.engine.context import Saving
from gaslayers.lean.engine.form import Form
from gaslayers.lean.engine.recompute import Dear, Selection
from gaslayers.lean.engine.whole import Whole


@dataclasses.dataclass
class _Decision:
    """What is dropped in passes of one kind.

    Args:
        shapes: Of the inputs, for people.
        dropped: Convolutions by their numbers; None: all.
        least: The fewest bytes that a pass kept so far.
        all_kept: What the first one kept.
        passes: How many were counted.
    """

    shapes: str
    dropped: frozenset[int] | None = None
    least: int = 2**63
    all_kept: int = 0
    passes: int = 0


class Budget:
    """What was decided within it, by the kind of pass.

    Args:
        most: Bytes that a forward pass may keep, beside parameters, buffers and its inputs.
    """

    COUNTED = 2
    """So many passes of a kind are counted: the first one, and the one that was decided on."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._decisions: dict[Hashable, _Decision] = {}

    def begin(self, module: nn.Module, inputs: Any) -> Saving:
        """The context of the module's next forward pass."""
        tensors = [leaf for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, Tensor)]
        key = (
            module.training,
            tuple((x.shape, x.dtype, x.device, x.requires_grad) for x in tensors),
            tuple(parameter.requires_grad for parameter in module.parameters()),
        )
        decision = self._decisions.get(key)
        if decision is None:
            shapes = ", ".join(str(tuple(x.shape)) for x in tensors)
            decision = self._decisions.setdefault(key, _Decision(shapes))
        selection = Selection(decision.dropped)
        if decision.passes == self.COUNTED:
            return Saving(selection)
        known = [*module.parameters(), *module.buffers(), *tensors]
        return _Counting(selection, known, lambda kept: self._decide(decision, kept, selection))

    def _decide(self, decision: _Decision, kept: int, selection: Selection) -> None:
        decision.passes += 1
        decision.least = min(decision.least, kept)
        if decision.passes == 1:
            decision.all_kept = kept
            decision.dropped = _choose(kept, self.most, selection.dear)
        elif kept > self.most:  # it was a guess
            decision.dropped = None
            if decision.all_kept > self.most:
                decision.passes = 0
                rule = f"be >= {decision.least}, the least for inputs of shape {decision.shapes}"
                raise bad_value("make_lean", "budget_bytes", rule, self.most)


def _choose(kept: int, most: int, dear: Sequence[Dear]) -> frozenset[int]:
    """What to drop for a pass to keep so many bytes at most, as far as can be told.

    The cheapest to run again per byte come first; where that is not enough, the largest.

    Args:
        kept: What a pass kept that dropped what it could.
        most: The budget.
        dear: The convolutions of that pass.
    """
    needed = [each for each in dear if each.runs_again or each.made.kept is not None]
    whole = kept + sum(each.byte_count for each in needed if each.runs_again)
    orders: tuple[Callable[[Dear], float], ...] = (
        lambda each: each.work / each.byte_count,
        lambda each: -each.byte_count,
    )
    dropped: list[Dear] = []
    for order in orders:
        dropped = _drop(whole - most, sorted(needed, key=order))
        if sum(each.byte_count for each in dropped) >= whole - most:
            break
    return frozenset(each.number for each in dropped)


def _drop(excess: int, candidates: Sequence[Dear]) -> list[Dear]:
    """So many bytes of candidates, of two in a row one."""
    dropped: list[Dear] = []
    sources = {each.number: each.sources() for each in candidates}
    for each in candidates:
        if excess <= 0:
            break
        in_a_row = any(
            other.made in sources[each.number] or each.made in sources[other.number]
            for other in dropped
        )
        if not in_a_row:
            dropped.append(each)
            excess -= each.byte_count
    return dropped


class _Counting(Saving):
    """Counts what is kept, and says so at its end.

    Args:
        selection: Which convolutions run again.
        known: Tensors that are there anyway.
        tell: Is told the bytes.
    """

    def __init__(
        self, selection: Selection, known: Sequence[Tensor], tell: Callable[[int], None]
    ) -> None:
        super().__init__(selection)
        self._counted = {tensor.untyped_storage()._cdata for tensor in known}
        self._tell = tell
        self._forms: list[Form] = []

    def pack(self, tensor: Tensor) -> Form:
        form = super().pack(tensor)
        self._forms.append(form)
        return form

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        forms, self._forms = self._forms, []
        if not error or error[0] is None:
            self._tell(sum(map(self._bytes, _wholes_of(forms))))

    def _bytes(self, whole: Whole) -> int:
        """Of the memory that has not been counted before."""
        if whole.tensor is None:  # hooks around the engine took it
            return whole.byte_count
        storage = whole.tensor.untyped_storage()
        if storage._cdata in self._counted:
            return 0
        self._counted.add(storage._cdata)
        return storage.nbytes()


def _wholes_of(forms: list[Form]) -> Iterator[Whole]:
    """All tensors that forms keep, each form once."""
    seen, rest = set[int](), list(forms)
    while rest:
        form = rest.pop()
        if id(form) in seen:
            continue
        seen.add(id(form))
        if isinstance(form, Whole):
            yield form
        rest += form.parts
