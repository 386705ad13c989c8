"""What every block shares: it prints as the call that builds it, and it can start afresh."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize


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


class Block(nn.Module):
    """Base of the blocks and units.

    A subclass stores each argument of its constructor under the argument's own name; that alone
    makes `extra_repr` the call that rebuilds it, options at their defaults left out.
    """

    in_channels: int
    out_channels: int

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

    def _make_inside_plain(self) -> None:
        """Let every block inside run its plain composition, too."""
        for module in self.modules():
            if isinstance(module, Block) and hasattr(module, "memory_efficient"):
                module.memory_efficient = False  # type: ignore[assignment]  # a block has it

    def extra_repr(self) -> str:
        """The arguments of the constructor call."""
        written = []
        for parameter in inspect.signature(type(self)).parameters.values():
            value = getattr(self, parameter.name)
            if parameter.default is inspect.Parameter.empty:
                written.append(_format(value))
            elif value is not parameter.default and value != parameter.default:
                written.append(f"{parameter.name}={_format(value)}")
        return ", ".join(written)
