"""The context in which autograd keeps each saved tensor in the least form that gives it back."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gaslayers._watching import watches_only
from gaslayers.lean.engine.aside import OWN, is_within, outer_hooks
from gaslayers.lean.engine.choice import form_again
from gaslayers.lean.engine.form import Form
from gaslayers.lean.engine.operation import NoOriginError, Operation, Pass, is_known, is_small
from gaslayers.lean.engine.provenance import Key, Provenance, is_parameter, key_of
from gaslayers.lean.engine.recompute import Selection, selection_of
from gaslayers.lean.engine.table import RULES
from gaslayers.lean.engine.version import Version
from gaslayers.lean.engine.whole import Small, Whole
from gaslayers.lean.modules import PLAIN_KINDS

if TYPE_CHECKING:
    from typing_extensions import Self


_Packed: TypeAlias = tuple[Form, Version | None]
"""What autograd has in a saved tensor's place."""


@watches_only
class Saving(TorchFunctionMode):
    """Sees every operator, and decides in which form what it saves is kept.

    Neither the hooks nor what is kept refer to it, so that memory is let go with the graph.

    Args:
        selection: Which convolutions run again; None: none.
        norms_in_bands: As for `Pass`.
    """

    def __init__(self, selection: Selection | None = None, *, norms_in_bands: bool = False) -> None:
        super().__init__()
        # Of a context within another, the inner one's hooks keep the tensors themselves.
        outer = None if is_within() else outer_hooks()
        self.pass_ = Pass(Provenance(), outer, selection or selection_of("cheap"), norms_in_bands)
        self.operation: Operation | None = None
        self._restored: dict[Key, tuple[weakref.ref[Any], weakref.ref[Form]]] = {}
        me, has_hooks = weakref.ref(self), self.pass_.outer is not None

        def pack(tensor: Tensor) -> _Packed:
            saving = me()
            form = Whole(tensor) if saving is None else saving.pack(tensor)
            # The tensor itself tells, where it is there; hooks around the engine do not ask.
            is_told = has_hooks or isinstance(form, Whole)
            return form, None if is_told else Version(tensor)

        def unpack(packed: _Packed) -> Tensor:
            form, version = packed
            if version is not None:
                version.check()
            tensor = form.restore()
            if torch.is_grad_enabled():
                saving = me()
                if saving is not None:
                    saving.remember(tensor, form.of_values)
            return tensor

        setattr(pack, OWN, True)
        self._hooks = torch.autograd.graph.saved_tensors_hooks(pack, unpack)

    def __enter__(self) -> Self:
        self._hooks.__enter__()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        self._hooks.__exit__(kind, error, trace)

    def pack(self, tensor: Tensor) -> Form:
        """The form in which a saved tensor is kept."""
        if is_parameter(tensor) or not is_known(tensor):
            return Whole(tensor, self.pass_.outer)
        keep = None if self.operation is None else self.operation.keep
        form = None if keep is None else keep(tensor)
        if form is not None:
            return form
        if is_small(tensor):
            return Small(tensor, self.pass_.outer)
        if self._restored:
            known = self._restored.get(key_of(tensor))
            form = None if known is None or known[0]() is None else known[1]()
            if form is not None:
                return form
        origin = self.pass_.book.of(tensor)
        form = form_again(self.pass_.book, self.pass_.outer, origin)
        return self.pass_.book.keep(origin, self.pass_.outer, tensor) if form is None else form

    def remember(self, tensor: Tensor, form: Form) -> None:
        """What double backward saves again is kept in the form that it came from."""
        if not is_known(tensor) or is_small(tensor):
            return
        # Autograd makes a new tensor of it, which begins to count its versions.
        place, me = (*key_of(tensor)[:-1], 0), weakref.ref(self)

        def forget(_: object) -> None:
            saving = me()
            if saving is not None:
                saving._restored.pop(place, None)

        self._restored[place] = (
            weakref.ref(tensor.untyped_storage(), forget),
            weakref.ref(form),
        )

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operator as its rule says."""
        kwargs = kwargs or {}
        rule = RULES.get(func)
        if rule is None or not (torch.is_grad_enabled() and PLAIN_KINDS.issuperset(types)):
            return func(*args, **kwargs)
        if (
            torch.compiler.is_compiling()
            or torch._C._functorch.peek_interpreter_stack() is not None
        ):
            return func(*args, **kwargs)
        before, self.operation = self.operation, Operation(self.pass_, func, args, kwargs)
        try:
            return rule(self.operation)
        except NoOriginError:  # asked before the operator runs
            return func(*args, **kwargs)
        finally:
            self.operation = before


def is_plain_kind(kind: type) -> bool:
    """Whether operators on tensors of this class mean what PyTorch's documentation says."""
    return kind in PLAIN_KINDS
