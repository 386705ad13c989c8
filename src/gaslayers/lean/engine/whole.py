"""The form that keeps a tensor as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from gaslayers.lean.engine.form import Form
from gaslayers.lean.engine.version import changed

Pack = Callable[[Tensor], Any]
Hooks = tuple[Pack, Callable[[Any], Tensor]]
"""What a user's saved-tensor hooks around the engine do to a tensor, and undo."""


class Whole(Form):
    """The tensor itself; or what hooks around the engine made of it.

    Raises:
        RuntimeError: On `restore`, as PyTorch does, where it was changed in place since.
    """

    __slots__ = ("_boxed", "_tensor", "_unpack", "_version", "byte_count")

    reason = "its values are read, and nothing less gives them back"

    def __init__(self, tensor: Tensor, outer: Hooks | None = None) -> None:
        self._tensor: Tensor | None = tensor.detach()
        self.byte_count = tensor.numel() * tensor.element_size()
        self._version = 0 if tensor.is_inference() else tensor._version
        if outer is not None:
            pack, self._unpack = outer
            self._boxed = pack(self._tensor)
            self._tensor = None

    @property
    def is_changed(self) -> bool:
        """Whether it was changed in place since."""
        tensor = self._tensor
        return tensor is not None and not tensor.is_inference() and tensor._version != self._version

    @property
    def tensor(self) -> Tensor | None:
        """It, unchanged, where hooks around the engine did not take it."""
        tensor = self._tensor
        return None if tensor is None or tensor._version != self._version else tensor

    def restore(self) -> Tensor:
        """The tensor."""
        tensor = self._tensor
        if tensor is None:
            return self._unpack(self._boxed)
        if not tensor.is_inference() and tensor._version != self._version:
            raise changed(tensor.type(), tensor.shape, tensor._version, self._version)
        return tensor
