"""Whether modules are as they were when a plan was made of them.

Neither modules nor tensors tell of changes, and all that a plan depends on can be changed from
outside: numbers, layers, parameters, hooks, methods. Looking at all of it takes a fraction of the
time that a plan takes.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from gaslayers.lean.modules import methods_of


class Snapshot:
    """What modules were like.

    Args:
        modules: All that a plan was made of, those within others included; without hooks.
        more: What else it was made of.
    """

    def __init__(self, modules: Sequence[nn.Module], *more: object) -> None:
        self._modules = modules
        self._objects, tensors = _look_at(modules)
        self._objects += more
        self._facts = _facts_of(tensors)
        self._methods = _methods_of(modules)
        self._tensors = {id(tensor) for tensor in tensors}

    def has(self, tensors: Iterable[Tensor]) -> bool:
        """Whether these are the modules' own, and none was computed from others."""
        return all(tensor.is_leaf and id(tensor) in self._tensors for tensor in tensors)

    def holds(self, *more: object) -> bool:
        """Whether the modules are still like this, and the rest the same."""
        objects, tensors = _look_at(self._modules)
        objects += more
        return (
            len(objects) == len(self._objects)
            and all(map(operator.is_, objects, self._objects))
            and _facts_of(tensors) == self._facts
            and _methods_of(self._modules) == self._methods
        )


def _look_at(modules: Iterable[nn.Module]) -> tuple[list[Any], list[Tensor]]:
    """All that modules hold, to be compared by identity, and the tensors among that."""
    objects: list[Any] = []
    tensors: list[Tensor | None] = []
    for module in modules:
        own = module.__dict__
        objects += own.values()
        objects += own["_modules"].values()
        objects += own["_forward_hooks"].values()
        objects += own["_forward_pre_hooks"].values()
        objects += own["_backward_hooks"].values()
        objects += own["_backward_pre_hooks"].values()
        tensors += own["_parameters"].values()
        tensors += own["_buffers"].values()
    objects += tensors
    return objects, [tensor for tensor in tensors if tensor is not None]


def _facts_of(tensors: Iterable[Tensor]) -> list[tuple[Any, ...]]:
    """What can be changed of a tensor that stays the same object, but for its values."""
    return [(t.shape, t.stride(), t.dtype, t.device, t.requires_grad) for t in tensors]


def _methods_of(modules: Iterable[nn.Module]) -> dict[type[nn.Module], tuple[Any, ...]]:
    """The methods of their classes, which are what a plan stands in for."""
    return {kind: methods_of(kind) for kind in set(map(type, modules))}


_remembered: WeakKeyDictionary[nn.Module, tuple[Snapshot, Any]] = WeakKeyDictionary()
"""What was made for each block, and of what."""


def recall(block: nn.Module, *given: object) -> Any | None:
    """What `remember` was told for this block; None: nothing, or something has changed since.

    Args:
        block: The block.
        *given: What else decides on a plan, to be compared by identity.
    """
    snapshot, made = _remembered.get(block, (None, None))
    return made if snapshot is not None and snapshot.holds(*given) else None


def remember(
    block: nn.Module,
    made: object,
    *given: object,
    modules: Sequence[nn.Module],
    tensors: Iterable[Tensor],
) -> None:
    """Remember what was made for a block, which it must not refer to.

    Nothing is remembered where one of the tensors was computed, and is another at each forward
    pass.

    Args:
        block: The block.
        made: What was made.
        *given: As for `recall`.
        modules: All that it was made of, those within others included; without hooks.
        tensors: Those that it refers to.
    """
    snapshot = Snapshot(modules, *given)
    if snapshot.has(tensors):
        _remembered[block] = snapshot, made
