"""A context for the steps of a generator, in which its critic's weights get no gradient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from torch import nn

from gaslayers._checks import check_module

_Module = TypeVar("_Module", bound=nn.Module)


@contextmanager
def frozen(module: _Module) -> Iterator[_Module]:
    """Let no parameter of a module ask for a gradient within.

    In a generator's step the discriminator only hands a gradient on. Frozen, it computes none for
    its own weights, and does not keep what those would read: of lean convolutions nothing but
    shapes.

    Args:
        module: A discriminator, or a network that compares features.

    Yields:
        The module. At the end every parameter asks for a gradient again that did before.

    Raises:
        TypeError: It is no module.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from gaslayers import frozen
        >>> discriminator = nn.Linear(3, 1)
        >>> image = torch.randn(2, 3, requires_grad=True)
        >>> with frozen(discriminator):
        ...     discriminator(image).sum().backward()
        >>> discriminator.weight.grad is None, discriminator.weight.requires_grad
        (True, True)
    """
    check_module("frozen", module)
    asking = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in asking:
        parameter.requires_grad_(False)
    try:
        yield module
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)
