"""The names of a module's parts, where one part may stand at several places."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from torch import nn


def named_parts(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every part under every name that leads to it; a part within itself is not followed."""
    path: list[nn.Module] = []

    def walk(part: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
        if part in path:
            return
        path.append(part)
        yield prefix, part
        for name, child in part._modules.items():
            if child is not None:
                yield from walk(child, f"{prefix}.{name}" if prefix else name)
        path.pop()

    yield from walk(module, "")


class CalledParts:
    """Say under which of its names a part is called.

    It is the name nearest to the module that is running, so that a shared part's cost goes to the
    parent that calls it. Where several are as near, calls take them in turn.

    Args:
        module: The module whose parts are named.
    """

    def __init__(self, module: nn.Module) -> None:
        self.names: dict[nn.Module, list[str]] = {}
        for name, part in named_parts(module):
            self.names.setdefault(part, []).append(name)
        self._calls: Counter[str] = Counter()

    def enter(self, part: nn.Module, running: str) -> str:
        """The name under which the part is called.

        Args:
            part: Any part.
            running: The name of the module that is running.
        """
        found = min(self.names[part], key=lambda name: (-_shared(name, running), self._calls[name]))
        self._calls[found] += 1
        return found


def _shared(first: str, second: str) -> int:
    """How many parents two names have in common."""
    count = 0
    for one, other in zip(first.split("."), second.split("."), strict=False):
        if one != other:
            break
        count += 1
    return count
