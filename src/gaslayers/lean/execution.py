"""Which path a block takes, and the questions that decide it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from gaslayers.lean.modules import find_hooked


@dataclasses.dataclass(frozen=True)
class Execution:
    """The path that a block's next forward takes.

    Args:
        path: ``"plain"``, or the name of the lean path.
        reason: Why this one.
    """

    path: str
    reason: str

    @property
    def is_lean(self) -> bool:
        """Whether anything but the plain composition runs."""
        return self.path != "plain"

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def plain(reason: str) -> Execution:
    """The plain composition, for this reason."""
    return Execution("plain", reason)


def reason_for_plain(replaced: Iterable[nn.Module], *, memory_efficient: bool) -> str | None:
    """What speaks against a lean path that does not call these inner modules; None: nothing.

    A hook on one of them would not run; under `torch.func` transforms and in forward mode the
    plain composition is what PyTorch can transform.
    """
    if not memory_efficient:
        return "memory_efficient=False"
    if torch._C._are_functorch_transforms_active():  # no public question exists
        return "a torch.func transform is active"
    if forward_ad._current_level >= 0:  # nor here
        return "forward-mode differentiation is active"
    hooked = find_hooked(replaced)
    if hooked is not None:
        return f"a hook sits on an inner {type(hooked).__name__}"
    return None


def reason_not_to_replace() -> str | None:
    """What speaks against one function in place of a chain of layers; None: nothing."""
    if torch.compiler.is_compiling():
        return "the compiler plans the memory of what it compiles"
    if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]  # untyped
        return "the tracer does not look into autograd functions"
    return None


def is_batch(grad: Tensor) -> bool:
    """Whether this is many gradients at once, as for a Jacobian (``is_grads_batched=True``).

    Such a tensor has neither memory that a kernel could read nor a memory format.
    """
    if torch.compiler.is_compiling():  # which does not know the question
        return False
    return torch._C._functorch.is_legacy_batchedtensor(grad)
