"""What a forward pass keeps for its backward pass, plain and lean, tensor by tensor."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gaslayers.accounting import _tables
from gaslayers.accounting._advice import Calls, activations_for_in_place
from gaslayers.accounting._sandbox import Call, copied, isolated, make_call
from gaslayers.accounting._whereabouts import Whereabouts
from gaslayers.lean.engine.aside import reason_to_step_aside
from gaslayers.lean.engine.context import Saving
from gaslayers.lean.engine.form import Form
from gaslayers.lean.engine.frozen import frozen
from gaslayers.lean.engine.saving import lean_saving
from gaslayers.lean.engine.whole import Whole

_MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class SavedTensor:
    """One tensor that an operator saves for its backward pass.

    Args:
        module: The module in which it is saved; "" is the root.
        operator: The operator that saves it.
        shape: Its shape.
        dtype: Its dtype.
        form: The form in which the engine keeps it.
        plain_bytes: What it keeps beyond the rows before it, without the engine.
        lean_bytes: The same with the engine.
        reason: Why that form is enough.
    """

    module: str
    operator: str
    shape: tuple[int, ...]
    dtype: str
    form: str
    plain_bytes: int
    lean_bytes: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class SavingReport:
    """What `explain_saving` found.

    Args:
        rows: A row a saved tensor, in the order in which they are saved.
        frozen_bytes: What is kept where the module is frozen and the input asks for a gradient, as
            in a generator's step; None where nothing of it can be frozen or its inputs are
            integers.
        could_be_in_place: Activations with ``inplace=False`` with which a step ends the same, to
            the bit, if that is True.
        could_be_joined: Parts that are called several times on batches that could be one, and how
            often.
    """

    rows: tuple[SavedTensor, ...]
    frozen_bytes: int | None
    could_be_in_place: tuple[str, ...] = ()
    could_be_joined: tuple[tuple[str, int], ...] = ()

    @property
    def plain_bytes(self) -> int:
        """What is kept without the engine; parameters and buffers are left out."""
        return sum(row.plain_bytes for row in self.rows)

    @property
    def lean_bytes(self) -> int:
        """What is kept with it."""
        return sum(row.lean_bytes for row in self.rows)

    @property
    def advice(self) -> tuple[str, ...]:
        """What else would keep less, in sentences."""
        found = []
        if self.frozen_bytes is not None and self.frozen_bytes < self.lean_bytes:
            found.append(
                "Where only the gradient of the input is wanted, as in a generator's step, freeze "
                f"the module: `with frozen(module)` keeps {_size(self.frozen_bytes)}."
            )
        if self.could_be_in_place:
            found.append(
                "These activations can work in place (`inplace=True`): gradients are the same, and "
                "the forward pass holds a map less beside what is kept: "
                f"{', '.join(self.could_be_in_place)}."
            )
        found += [
            f"`{name}` is called {count} times. If it takes no statistics over the batch, call it "
            "once on the joined batch (`torch.cat`): then it computes its weights once, and gives "
            "the same from fewer operators."
            for name, count in self.could_be_joined
        ]
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain numbers and strings."""
        totals = {"plain_bytes": self.plain_bytes, "lean_bytes": self.lean_bytes}
        return totals | {"advice": list(self.advice)} | asdict(self)

    def to_json(self, *, indent: int | None = 2) -> str:
        """The same as JSON."""
        return json.dumps(self.to_dict(), indent=indent)

    def to_markdown(self) -> str:
        """The table in Markdown."""
        return _tables.markdown(*self._table())

    def __str__(self) -> str:
        return _tables.text(*self._table())

    def _repr_html_(self) -> str:
        return _tables.html(*self._table())

    def _table(self) -> tuple[Sequence[str], Sequence[str], list[list[str]]]:
        ratio = self.lean_bytes / self.plain_bytes if self.plain_bytes else 1.0
        summary = [
            f"Kept for the backward pass: {_size(self.plain_bytes)} plain, "
            f"{_size(self.lean_bytes)} lean ({ratio:.2f} of it).",
            *self.advice,
        ]
        header = ["module", "operator", "shape", "plain bytes", "lean bytes", "form", "why"]
        rows = [
            [
                row.module or "(root)",
                row.operator,
                " x ".join(map(str, row.shape)),
                f"{row.plain_bytes:,}",
                f"{row.lean_bytes:,}",
                row.form,
                row.reason,
            ]
            for row in self.rows
        ]
        return summary, header, rows


def _size(count: int) -> str:
    return f"{count / _MIB:.2f} MiB" if count >= _MIB / 10 else f"{count:,} bytes"


class _Explaining(Saving):
    """Notes what is saved, by which operator, and in which form."""

    def __init__(self, where: Whereabouts) -> None:
        super().__init__()
        self._where, self._name = where, ""
        self.noted: list[tuple[str, str, Tensor, Form]] = []

    def pack(self, tensor: Tensor) -> Form:
        form = super().pack(tensor)
        self.noted.append((self._where.module, self._name, tensor.detach(), form))
        return form

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        before, self._name = self._name, getattr(func, "__name__", "").strip("_")
        try:
            return super().__torch_function__(func, types, args, kwargs)
        finally:
            self._name = before


def explain_saving(
    module: nn.Module, inputs: Any, *, kwargs: Mapping[str, Any] | None = None
) -> SavingReport:
    """Say what each operator of a forward pass saves, plain and lean, in which form and why.

    The pass runs on a copy, so that statistics and random numbers stay as they are. What several
    operators save counts for the first of them. For the advice, other copies take a step each.

    Args:
        module: Any module, lean already or not.
        inputs: As for `gaslayers.count`.
        kwargs: Keyword arguments of the forward pass.

    Raises:
        TypeError: As for `gaslayers.saved_bytes`.
        ValueError: As for it, or the engine steps aside here.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from gaslayers import explain_saving
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        >>> report = explain_saving(network, torch.zeros(4, 3, 34, 34))
        >>> report.plain_bytes, report.lean_bytes
        (317696, 55552)
    """
    call = make_call("explain_saving", module, inputs, kwargs)
    rows = _explain(call)
    frozen_bytes = None
    images = [t for t in call.inputs() if t.is_floating_point()]
    if images and any(parameter.requires_grad for parameter in call.module.parameters()):
        with suppress(RuntimeError):  # as of an input that is changed in place
            frozen_bytes = sum(row.lean_bytes for row in _explain(call, is_frozen=True))
    with isolated(call), torch.enable_grad():
        in_place = activations_for_in_place("explain_saving", call)
        twin = copied("explain_saving", call)
        calls = Calls(twin.module)
        with calls.counted(), lean_saving():
            twin.run()
    return SavingReport(
        rows=tuple(rows),
        frozen_bytes=frozen_bytes,
        could_be_in_place=tuple(in_place),
        could_be_joined=tuple(calls.that_could_be_joined()),
    )


def _explain(call: Call, *, is_frozen: bool = False) -> list[SavedTensor]:
    with isolated(call), torch.enable_grad(), ExitStack() as stack:
        twin = copied("explain_saving", call)
        if is_frozen:
            stack.enter_context(frozen(twin.module))
            for tensor in twin.inputs():
                if tensor.is_floating_point() and tensor.is_leaf:
                    tensor.requires_grad_()
        reason = reason_to_step_aside()
        if reason is not None:
            raise ValueError(f"explain_saving: the engine steps aside here: {reason}.")
        where = Whereabouts(twin.module)
        with where.watching(), _Explaining(where) as saving:
            output = twin.run()
        weights = {
            t.untyped_storage()._cdata for t in [*twin.module.parameters(), *twin.module.buffers()]
        }
        plain, lean = set(weights), set(weights)
        rows = []
        for name, operator, tensor, form in saving.noted:
            held = [t for t in _tensors_of(form) if t is not None]
            rows.append(
                SavedTensor(
                    module=name,
                    operator=operator,
                    shape=tuple(tensor.shape),
                    dtype=str(tensor.dtype).removeprefix("torch."),
                    form=_name(form),
                    plain_bytes=_new_bytes([tensor], plain),
                    lean_bytes=_new_bytes(held, lean),
                    reason=form.reason,
                )
            )
        del output  # not before: the graph hangs on it
    return rows


def _tensors_of(form: Form) -> Iterator[Tensor | None]:
    if isinstance(form, Whole):
        yield form.tensor
    for part in form.parts:
        yield from _tensors_of(part)


def _new_bytes(tensors: Sequence[Tensor], seen: set[int]) -> int:
    """Bytes of the memory that was not seen before."""
    count = 0
    for tensor in tensors:
        storage = tensor.untyped_storage()
        if storage._cdata not in seen:
            seen.add(storage._cdata)
            count += storage.nbytes()
    return count


def _name(form: Form) -> str:
    return _NAMES.get(type(form).__name__, type(form).__name__.lower())


_NAMES = {"Small": "whole", "ShapeOnly": "shape", "Again": "run again"}
