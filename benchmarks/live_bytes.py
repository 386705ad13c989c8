"""The bytes of the storages that operators made and that still live."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode


class LiveBytes(TorchDispatchMode):
    """Counts them, now and at the highest, without keeping any alive.

    Args:
        known: Tensors that are there anyway and do not count.
    """

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self._known = {tensor.untyped_storage()._cdata for tensor in known}
        self._living: dict[int, weakref.ref[Any]] = {}
        self.now = 0
        self.peak = 0
        self.history: list[int] = []
        """What lived behind each operator."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for leaf in pytree.tree_leaves(made):
            if isinstance(leaf, Tensor):
                self._meet(leaf)
        self.history.append(self.now)
        return made

    def leave_out(self, tensor: Tensor) -> None:
        """From now on this one does not count."""
        address = tensor.untyped_storage()._cdata
        if self._living.pop(address, None) is not None:
            self.now -= tensor.untyped_storage().nbytes()
        self._known.add(address)

    def _meet(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        address, size = storage._cdata, storage.nbytes()
        if address in self._living or address in self._known:
            return

        def forget(_: object) -> None:
            del self._living[address]
            self.now -= size

        self._living[address] = weakref.ref(storage, forget)
        self.now += size
        self.peak = max(self.peak, self.now)
