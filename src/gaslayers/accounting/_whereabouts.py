"""Which module is running, in the forward pass and in the backward pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

from gaslayers._watching import watches_only
from gaslayers.lean.modules import tensors_of

_MARK = "gaslayers.accounting"


class Whereabouts:
    """Know the innermost module that is running.

    No hook sits on a module, since one on an inner module turns a lean block plain, and no node
    of the graph is held, since that would keep alive what it saved.

    Args:
        module: The module whose parts are known by their names.
    """

    def __init__(self, module: nn.Module) -> None:
        self._names = {part: name for name, part in module.named_modules()}
        self._stack = [""]
        self._resumed: list[str | None] = [None]

    @property
    def module(self) -> str:
        """Name of the module that is running; "" is the root, or what is outside of it."""
        resumed = self._resumed[-1]
        # A forward pass may differentiate, too: what follows there is its own again.
        is_backward = resumed is not None and torch._C._current_autograd_node() is not None
        return resumed if resumed is not None and is_backward else self._stack[-1]

    def name_of(self, part: nn.Module) -> str:
        """The name of a part; of what is no part, its class."""
        return self._names.get(part, type(part).__name__)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Follow the calls of all parts."""
        with ExitStack() as stack:
            stack.callback(register_module_forward_pre_hook(self._enter).remove)
            stack.callback(register_module_forward_hook(self._leave, always_call=True).remove)
            yield

    def reset(self) -> None:
        """Be outside of all parts, as after a forward or a backward pass."""
        self._stack, self._resumed = [""], [None]

    @watches_only
    def _enter(self, part: nn.Module, args: Any) -> None:
        if part in self._names:
            self._own(tensors_of(args))
            self._stack.append(self._names[part])
            self._resumed.append(None)

    @watches_only
    def _leave(self, part: nn.Module, _args: Any, output: Any) -> None:
        if part in self._names:
            self._own(tensors_of(output))
            self._stack.pop()
            self._resumed.pop()

    def _own(self, tensors: Iterable[Tensor]) -> None:
        """Give the graph behind the tensors, where nobody owns it yet, to the current module."""
        pending = [tensor.grad_fn for tensor in tensors]
        while pending:
            node = pending.pop()
            # Nodes without a source add up a parameter's gradient: they belong to their callers.
            if node is None or not node.next_functions:
                continue
            notes: Any = node.metadata  # a dict, which the stubs call a method
            if _MARK in notes:
                continue
            notes[_MARK] = True
            node.register_prehook(self._resume(self.module))
            pending.extend(source for source, _ in node.next_functions)

    def _resume(self, name: str) -> Any:
        def resume(_grads: Any) -> None:
            self._resumed[-1] = name

        return resume
