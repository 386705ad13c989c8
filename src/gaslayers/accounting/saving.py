"""The bytes that a forward pass keeps for its backward pass."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

from gaslayers._checks import bad_value
from gaslayers._watching import watches_only
from gaslayers.accounting._sandbox import Call, copied, isolated, make_call


class _Saved:
    """What autograd holds in a saved tensor's place; it lives as long as autograd needs it."""

    def __init__(self, tensor: Tensor, order: int, module: str) -> None:
        self.tensor = tensor
        self.order = order
        self.module = module


class _Keeper:
    """Follow what autograd saves, and in which module."""

    def __init__(self, module: nn.Module) -> None:
        self.alive: weakref.WeakSet[_Saved] = weakref.WeakSet()
        self._names = {part: name for name, part in module.named_modules()}
        self._order = 0
        self._stack = [""]

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Follow calls through hooks on no module: one on an inner module turns a block plain."""
        with ExitStack() as stack:
            stack.callback(register_module_forward_pre_hook(self._enter).remove)
            stack.callback(register_module_forward_hook(self._leave, always_call=True).remove)
            yield

    @watches_only
    def _enter(self, part: nn.Module, _args: Any) -> None:
        if part in self._names:
            self._stack.append(self._names[part])

    @watches_only
    def _leave(self, part: nn.Module, _args: Any, _output: Any) -> None:
        if part in self._names:
            self._stack.pop()

    def pack(self, tensor: Tensor) -> _Saved:
        # Detached: an output that is saved with its history would keep its own graph alive.
        saved = _Saved(tensor.detach(), self._order, self._stack[-1])
        self._order += 1
        self.alive.add(saved)
        return saved

    def by_module(self, left_out: set[tuple[torch.device, int]]) -> dict[str, int]:
        """Bytes of each storage once, to the module that saved it first."""
        found: Counter[str] = Counter()
        seen = set(left_out)
        for saved in sorted(self.alive, key=lambda saved: saved.order):
            storage = saved.tensor.untyped_storage()
            if (key := (storage.device, storage.data_ptr())) not in seen:
                seen.add(key)
                found[saved.module] += storage.nbytes()
        return dict(found)


def _check_compiled(owner: str, call: Call) -> None:
    for name, module in call.module.named_modules():
        if getattr(module, "_compiled_call_impl", None) is not None:
            rule = "not be compiled in place"
            remedy = "Pass what torch.compile(module) returns: a copy of that one is compiled too."
            raise bad_value(owner, "module", rule, name or type(module).__name__, remedy)


def _keep(owner: str, call: Call, *, by_module: bool) -> dict[str, int]:
    _check_compiled(owner, call)
    with isolated(call), torch.enable_grad(), ExitStack() as stack:
        twin = copied(owner, call)
        keeper = _Keeper(twin.module)
        stack.enter_context(saved_tensors_hooks(keeper.pack, lambda saved: saved.tensor))
        if by_module:
            stack.enter_context(keeper.watching())
        output = twin.run()
        weights = [*twin.module.parameters(), *twin.module.buffers()]
        storages = [weight.untyped_storage() for weight in weights]
        kept = keeper.by_module({(s.device, s.data_ptr()) for s in storages})
        del output  # not before: the graph hangs on it
    return kept


def saved_bytes(module: nn.Module, inputs: Any, *, kwargs: Mapping[str, Any] | None = None) -> int:
    """Count the bytes that autograd keeps from a forward pass until the backward pass.

    Exact on any device: the pass is run on a copy, lean or plain, compiled or eager as the module
    is, and every storage that is saved counts once and whole. Left out are parameters and
    buffers, which exist anyway; an input counts where it is saved.

    Args:
        module: What to run, in training or evaluation mode as it is.
        inputs: As for `gaslayers.count`.
        kwargs: Keyword arguments of the forward pass.

    Raises:
        TypeError: ``module`` is no module, is scripted or cannot be copied.
        ValueError: A lazy parameter, a tensor without values, a module compiled in place. An
            error of the module's own comes as it is.

    Note:
        Tensors that escape autograd's own book are not seen: attributes of a custom function's
        context, what a module offloads through saved tensor hooks of its own.

    Example:
        >>> import torch
        >>> from gaslayers.accounting import saved_bytes
        >>> saved_bytes(torch.nn.Conv2d(3, 8, 3), torch.zeros(2, 3, 9, 9))  # the input
        1944
    """
    owner = "saved_bytes"
    return sum(_keep(owner, make_call(owner, module, inputs, kwargs), by_module=False).values())


def saved_bytes_by_module(
    module: nn.Module, inputs: Any, *, kwargs: Mapping[str, Any] | None = None
) -> dict[str, int]:
    """Say which module saves the bytes of `saved_bytes`.

    A storage belongs to the innermost module that saved it first, so that the entries sum to the
    whole; modules that save nothing of their own have no entry, "" is the root's own share.

    Args:
        module: As for `saved_bytes`; not compiled.
        inputs: As for `saved_bytes`.
        kwargs: As for `saved_bytes`.

    Raises:
        TypeError: As for `saved_bytes`.
        ValueError: As for `saved_bytes`, or a compiled module, whose parts run as one.

    Example:
        >>> import torch
        >>> from gaslayers.accounting import saved_bytes_by_module
        >>> network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU())
        >>> saved_bytes_by_module(network, torch.zeros(2, 4))
        {'0': 32, '1': 64}
    """
    owner = "saved_bytes_by_module"
    call = make_call(owner, module, inputs, kwargs)
    for name, part in call.module.named_modules():
        if hasattr(part, "_orig_mod"):
            remedy = "Its parts run as one: see saved_bytes for the whole."
            raise bad_value(owner, "module", "not be compiled", name or type(part), remedy)
    return _keep(owner, call, by_module=True)
