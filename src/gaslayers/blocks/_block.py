"""What every block shares: it prints as the call that builds it, and it can start afresh."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from gaslayers._typing import MemoryEfficient


def _format(value: Any) -> str:
    """Write a value as source: ``nn.ReLU``, ``partial(nn.LeakyReLU, 0.2)``, ``(1, 3)``."""
    if isinstance(value, functools.partial):
        positional = [_format(item) for item in value.args]
        keyword = [f"{name}={_format(item)}" for name, item in value.keywords.items()]
        return f"partial({', '.join([_format(value.func), *positional, *keyword])})"
    if inspect.isclass(value):
        prefix = "nn." if getattr(nn, value.__name__, None) is value else ""
        return prefix + value.__qualname__
    if inspect.isfunction(value):
        return value.__qualname__
    return repr(value)


def least_sides_before(body: nn.Module, pool: nn.Module, count: int = 1) -> tuple[int, int]:
    """The smallest input of a body and a pooling behind it; of one row and column if not known.

    Args:
        body: What comes before the pooling.
        pool: The pooling.
        count: How many rows and columns come out.
    """
    if isinstance(pool, nn.MaxPool2d | nn.AvgPool2d) and isinstance(pool.kernel_size, int):
        plain = (pool.stride, pool.padding, pool.ceil_mode) == (pool.kernel_size, 0, False)
        count *= pool.kernel_size if plain else 1
    if isinstance(body, Block):
        return body.least_sides(count)
    keeps_size = isinstance(body, nn.Conv2d) and body.kernel_size == body.stride == (1, 1)
    return (count, count) if keeps_size else (1, 1)


class Block(nn.Module):
    """Base of the blocks and units.

    A subclass stores each argument of its constructor under the argument's own name, or with an
    underscore in front of it where a layer's tensor bears the name; that alone makes `extra_repr`
    the call that rebuilds it, options at their defaults left out. Device and dtype are no part of
    it, as in PyTorch's layers.
    """

    in_channels: int
    out_channels: int
    _memory_efficient: MemoryEfficient = True

    def least_sides(self, count: int = 1) -> tuple[int, int]:
        """The smallest height and width of an input that gives so many rows and columns.

        Args:
            count: How many of both.
        """
        least = (count - 1) * getattr(self, "stride", 1) + 1
        return least, least

    def reset_parameters(self) -> None:
        """Draw every parameter anew, each layer by its own rule, as at construction."""
        for module in self.modules():
            reset: Callable[[], None] | None = getattr(module, "reset_parameters", None)
            if reset is None or isinstance(module, Block):
                continue
            # Cached: a parametrised weight (spectral norm) is computed at each access, and what is
            # drawn into it would be lost; it is handed over to what it is computed from.
            with torch.no_grad(), parametrize.cached():
                reset()
                if parametrize.is_parametrized(module):
                    # A ModuleDict where the question above is answered with yes.
                    for name in module.parametrizations:  # type: ignore[union-attr]
                        setattr(module, name, getattr(module, name).clone())

    @property
    def memory_efficient(self) -> MemoryEfficient:
        """Whether a lean path may run; False reaches every block inside."""
        return self._memory_efficient

    @memory_efficient.setter
    def memory_efficient(self, value: MemoryEfficient) -> None:
        self._memory_efficient = value
        if not value:
            self._make_inside_plain()

    def _make_inside_plain(self) -> None:
        """Let every block inside run its plain composition, too."""
        for module in self.modules():
            if isinstance(module, Block):
                module._memory_efficient = False

    def extra_repr(self) -> str:
        """The arguments of the constructor call."""
        written = []
        for parameter in inspect.signature(type(self)).parameters.values():
            if parameter.name in ("device", "dtype"):
                continue
            hidden = f"_{parameter.name}"
            value = getattr(self, hidden if hidden in vars(self) else parameter.name)
            if parameter.default is inspect.Parameter.empty:
                written.append(_format(value))
            elif value is not parameter.default and value != parameter.default:
                written.append(f"{parameter.name}={_format(value)}")
        return ", ".join(written)
