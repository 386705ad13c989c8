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

    __slots__ = (
        "_before_change",
        "_boxed",
        "_is_read",
        "_tensor",
        "_unpack",
        "_version",
        "byte_count",
    )

    reason = "its values are read, and nothing less gives them back"

    def __init__(self, tensor: Tensor, outer: Hooks | None = None) -> None:
        self._tensor: Tensor | None = tensor.detach()
        self._is_read = False
        self._before_change: Tensor | None = None
        self.byte_count = tensor.numel() * tensor.element_size()
        self._version = None if tensor.is_inference() else tensor._version
        if outer is not None:
            pack, self._unpack = outer
            self._boxed = pack(self._tensor)
            self._tensor = None

    @property
    def is_changed(self) -> bool:
        """Whether it was changed in place since."""
        tensor, version = self._tensor, self._version
        return tensor is not None and version is not None and tensor._version != version

    @property
    def tensor(self) -> Tensor | None:
        """It, unchanged, where hooks around the engine did not take it."""
        return None if self.is_changed else self._tensor

    def expect_reader(self) -> None:
        """An operator that runs again will read it."""
        self._is_read = True

    def prepare_change(self) -> None:
        """It is about to be changed in place: keep what operators that run again will read.

        PyTorch would have kept what those made of it. Whoever saved the tensor itself refuses the
        change.
        """
        if self._is_read and self._tensor is not None and not self.is_changed:
            self._before_change = self._tensor.clone()

    def read(self) -> Tensor:
        """The tensor as it was, where a change was prepared for."""
        before = self._before_change
        return self.restore() if before is None or not self.is_changed else before

    def restore(self) -> Tensor:
        """The tensor."""
        tensor = self._tensor
        if tensor is None:
            return self._unpack(self._boxed)
        version = self._version
        if version is not None and tensor._version != version:
            raise changed(tensor.type(), tensor.shape, tensor._version, version)
        return tensor


class Small(Whole):
    """A tensor for which another form would take more time than its bytes are worth."""

    __slots__ = ()

    reason = "small: kept whole"
