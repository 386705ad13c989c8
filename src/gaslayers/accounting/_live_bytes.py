"""Every storage of a run, from its birth to its death."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    UnsupportedOperatorException,
)
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from gaslayers._checks import bad_value
from gaslayers.accounting._allocation import as_allocated
from gaslayers.accounting._fake import make_fake
from gaslayers.accounting._shapes import compute, leaves
from gaslayers.accounting._whereabouts import Whereabouts

FORWARD, BACKWARD, OPTIMIZER, FOREACH = "forward", "backward", "optimizer", "foreach optimizer"

PARAMETERS, BUFFERS, INPUTS, GRADIENTS = "parameters", "buffers", "inputs", "gradients"
STATE, ACTIVATIONS, TEMPORARIES = "optimizer_state", "activations", "temporaries"
KINDS = (PARAMETERS, BUFFERS, INPUTS, GRADIENTS, STATE, ACTIVATIONS, TEMPORARIES)

_aten = torch.ops.aten
_READ = _aten._local_scalar_dense.default
_NO_FAKE = "no fake impl registered"  # says a custom operator, with no class of error of its own
_LIFTS = (_aten.lift_fresh.default, _aten.lift_fresh_copy.default, _aten.lift.default)


@dataclass(eq=False)
class Storage:
    """One storage.

    Args:
        phase: The phase that it was born in; None: it was there before.
        is_scalar: Whether it was born as a tensor without dimensions.
        device: Type of its device.
        kind: One of `KINDS`.
    """

    phase: str | None
    is_scalar: bool
    device: str
    kind: str = TEMPORARIES


class Change(NamedTuple):
    """A storage's birth, growth or death.

    Args:
        storage: The storage.
        size: Bytes by which it grows; negative: shrinks.
        phase: The phase of the step.
        module: The module that is running.
        operator: The operator that has just returned.
    """

    storage: Storage
    size: int
    phase: str
    module: str
    operator: str


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]  # untyped in torch
    """Record what is born and dies while fake tensors are computed with.

    Real tensors that a closure brings along are taken for their fakes and left as they are.

    Args:
        owner: Who asks, for error messages.
        fakes: The mode that computes; it is entered first.
        where: Says which module is running.
    """

    def __init__(self, owner: str, fakes: FakeTensorMode, where: Whereabouts) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # likewise
        self.changes: list[Change] = []
        self.captured: list[tuple[Storage, int]] = []
        self.phase = FORWARD
        self._owner = owner
        self._fakes = fakes
        self._where = where
        self._operator = "start"
        self._alive: dict[int, tuple[Any, Storage, int]] = {}
        self._strangers: dict[int, tuple[Tensor, Tensor | None, FakeTensor]] = {}

    def mark(self, kind: str, tensors: Iterable[Tensor]) -> None:
        """Say what these are; those that are unknown exist from now on."""
        for tensor in tensors:
            self._see(tensor, phase=None).kind = kind

    def mark_activations(self) -> None:
        """Say that what the forward pass made and left is for the backward pass or the caller."""
        for _, storage, _ in self._alive.values():
            if storage.phase == FORWARD and storage.kind == TEMPORARIES:
                storage.kind = ACTIVATIONS

    def alive(self) -> list[tuple[Storage, int]]:
        """What is alive, with its size; what closures brought along is in `captured`."""
        known = {storage for storage, _ in self.captured}
        entries = [(storage, size) for _, storage, size in self._alive.values()]
        return [entry for entry in entries if entry[0] not in known]

    def restore_strangers(self) -> None:
        """Put the gradients of captured tensors back."""
        for tensor, grad, _ in self._strangers.values():
            if tensor.is_leaf:
                tensor.grad = grad

    def _see(self, tensor: Tensor, phase: str | None) -> Storage:
        if tensor.layout is not torch.strided:
            raise bad_value(self._owner, "module", "use strided tensors alone", tensor.layout)
        memory = tensor.untyped_storage()
        key, size = memory._cdata, memory.nbytes()
        if key in self._alive:
            watch, storage, known = self._alive[key]
            if size == known:
                return storage
        else:
            storage, known = Storage(phase, tensor.dim() == 0, tensor.device.type), 0
            watch = weakref.ref(memory, lambda _: self._bury(key))
        self._alive[key] = watch, storage, size
        self._record(storage, size - known)
        return storage

    def _bury(self, key: int) -> None:
        _, storage, size = self._alive.pop(key)
        self._record(storage, -size)

    def _record(self, storage: Storage, size: int) -> None:
        place = self.phase, self._where.module, self._operator
        self.changes.append(Change(storage, size, *place))

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        given = (args, tuple(named.values()))
        if func not in _LIFTS and any(type(leaf) is not FakeTensor for leaf in leaves(given)):
            args, named = pytree.tree_map_only(Tensor, self._as_fake, (args, named))
        operator = str(getattr(func, "overloadpacket", func))
        if not operator.startswith("prim."):  # a question, such as which device
            self._operator = operator
        try:
            out = compute(self._fakes, func, args, named)
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            if func is _READ and self.phase in (OPTIMIZER, FOREACH):
                return 1.0 if args[0].is_floating_point() else 1
            rule = f"run the same operators whatever the values, but {self._where.module!r} reads"
            remedy = (
                "No values exist before it runs: make what depends on them an argument, or "
                "predict its parts."
            )
            raise bad_value(
                self._owner, "module", f"{rule} some", self._operator, remedy
            ) from error
        except RuntimeError as error:
            if not isinstance(error, UnsupportedOperatorException) and _NO_FAKE not in str(error):
                raise
            rule = f"use operators with a fake implementation, but {self._where.module!r} does not"
            remedy = "Register one with torch.library.register_fake."
            raise bad_value(self._owner, "module", rule, self._operator, remedy) from error
        out = as_allocated(func, args, out)
        in_place = operator.endswith("_")  # a known tensor comes back, which may have grown
        for tensor in leaves(args[:1] if in_place else out):
            self._see(tensor, self.phase)
        return out

    def _as_fake(self, tensor: Tensor) -> Tensor:
        """The fake in place of a real tensor that came through a closure."""
        if isinstance(tensor, FakeTensor):
            return tensor
        if id(tensor) not in self._strangers:
            with _disable_current_modes():
                fake = make_fake(self._fakes, tensor)
            self._strangers[id(tensor)] = tensor, tensor.grad if tensor.is_leaf else None, fake
            memory = fake.untyped_storage()
            if memory._cdata not in self._alive:
                storage = Storage(None, tensor.dim() == 0, tensor.device.type, INPUTS)
                self._alive[memory._cdata] = memory, storage, memory.nbytes()
                self.captured.append((storage, memory.nbytes()))
        return self._strangers[id(tensor)][2]
