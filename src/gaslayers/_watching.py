"""A mark on hooks that only look on, so that a block with lean paths need not heed them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

_Hook = TypeVar("_Hook", bound=Callable[..., Any])

_MARK = "_gaslayers_only_watches"


def watches_only(hook: _Hook) -> _Hook:
    """Mark a hook for all modules that changes nothing and need not see every inner layer."""
    setattr(hook, _MARK, True)
    return hook


def takes_part(kind: _Hook) -> _Hook:
    """Take the mark from a class, where its base has it."""
    setattr(kind, _MARK, False)
    return kind


def is_watcher(hook: object) -> bool:
    """Whether a hook is marked by `watches_only`."""
    return getattr(hook, _MARK, False) is True
