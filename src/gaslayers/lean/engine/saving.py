"""What users put around forward code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import gaslayers.lean.rules  # noqa: F401  # fills the table
from gaslayers.lean.engine.aside import reason_to_step_aside
from gaslayers.lean.engine.context import Saving
from gaslayers.lean.engine.recompute import Recompute, check_recompute, selection_of


@contextmanager
def lean_saving(*, recompute: Recompute = "cheap") -> Iterator[None]:
    """Save lean whatever runs within.

    Every tensor that autograd saves for the backward pass is kept in the least form that gives it
    back to the bit: whole, as a bit an element, as its shape, or as the operator that made it and
    runs again. Gradients of any order, random numbers and buffers stay the same.

    Around ``torch.autograd.grad`` with ``create_graph=True``, too, what the gradient saves once
    more is kept in the same form.

    Where `torch.compile`, a tracer, `torch.func` or a checkpoint decides what is saved, nothing
    happens.

    Args:
        recompute: As for `gaslayers.make_lean`.

    Raises:
        ValueError: ``recompute`` is neither.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from gaslayers import lean_saving
        >>> discriminator = nn.Sequential(nn.Conv2d(3, 8, 4, 2, 1), nn.LeakyReLU(0.2))
        >>> with lean_saving():
        ...     scores = discriminator(torch.randn(2, 3, 16, 16))
        >>> scores.sum().backward()
    """
    check_recompute("lean_saving", recompute)
    if reason_to_step_aside() is not None:
        yield
        return
    with Saving(selection_of(recompute)):
        yield
