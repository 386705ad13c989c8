"""Build a block from the call that a directive names."""

from __future__ import annotations

import functools
from typing import Any

import torch
from sphinx.errors import ExtensionError
from torch import nn

import gaslayers
from gaslayers import models

NAMES: dict[str, Any] = {
    "torch": torch,
    "nn": nn,
    "partial": functools.partial,
    **{name: getattr(gaslayers, name) for name in gaslayers.__all__},
    **{name: getattr(models, name) for name in models.__all__},
}


def build(call: str, **overridden: Any) -> nn.Module:
    """Evaluate a call such as ``InceptionBlock(32, 64)``, drawn from seed 0.

    Args:
        call: The call, its names those of torch, nn, partial, gaslayers and gaslayers.models.
        overridden: Keyword arguments to add.

    Raises:
        ExtensionError: It builds no module.
    """
    written = call.rstrip().removesuffix(")")
    options = ", ".join(f"{name}={value!r}" for name, value in overridden.items())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = eval(f"{written}, {options})" if options else call, dict(NAMES))
    if not isinstance(module, nn.Module):
        raise ExtensionError(f"`{call}` must build a module, got {type(module).__name__}")
    return module


def read_shape(text: str) -> tuple[int, ...]:
    """``32 1 28 28`` -> (32, 1, 28, 28)."""
    return tuple(int(size) for size in text.split())
