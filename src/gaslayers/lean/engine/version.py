"""The version of a tensor, without the tensor."""

from __future__ import annotations

import torch
from torch import Tensor

from gaslayers.lean.modules import PLAIN_KINDS

_CHANGED = (
    "one of the variables needed for gradient computation has been modified by an inplace "
    "operation: [{kind} {shape}] is at version {found}; expected version {expected} instead."
)


def seen(tensor: Tensor) -> Version | None:
    """The version of what a function reads and does not save; None: there is none to be told."""
    if torch.compiler.is_compiling() or type(tensor) not in PLAIN_KINDS:
        return None
    is_wrapped = torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    return None if is_wrapped or tensor.is_inference() else Version(tensor)


def check_seen(*versions: Version | None) -> None:
    """Raise PyTorch's error where one of the tensors was changed."""
    for version in versions:
        if version is not None:
            version.check()


class Version:
    """Tells later whether a tensor was changed in place, though its memory may be gone by then.

    PyTorch refuses a backward pass through a changed tensor, whatever of it the operator reads.
    """

    __slots__ = ("_counter", "_shape", "_version")

    def __init__(self, tensor: Tensor) -> None:
        self._shape, self._version = tensor.shape, tensor._version
        # A detached tensor counts together with the original, and still does without its memory.
        self._counter = tensor.detach()
        self._counter.data = tensor.new_empty(0)

    def check(self) -> None:
        """Raise PyTorch's error where the tensor was changed."""
        found = self._counter._version
        if found != self._version:
            raise changed(self._counter.type(), self._shape, found, self._version)


def changed(kind: str, shape: tuple[int, ...], found: int, expected: int) -> RuntimeError:
    """The error for a tensor that was changed in place."""
    return RuntimeError(
        _CHANGED.format(kind=kind, shape=list(shape), found=found, expected=expected)
    )
