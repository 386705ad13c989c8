"""A real training step with every storage watched: the oracle of predicted peaks."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Watch(TorchDispatchMode):
    """The live bytes of real storages; independent of what is tested."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.watches: dict[int, weakref.ref] = {}
        self.total = self.peak = 0

    def see(self, tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in self.sizes:
                self.sizes[key] = storage.nbytes()
                self.total += storage.nbytes()
                self.watches[key] = weakref.ref(storage, lambda _, key=key: self.forget(key))
        self.peak = max(self.peak, self.total)

    def forget(self, key: int) -> None:
        self.total -= self.sizes.pop(key)
        del self.watches[key]

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.see(leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor))
        return out


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the collector, which ends the lives of cycles at any moment."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def total(output) -> Tensor:
    leaves = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
    parts = [leaf.sum() for leaf in leaves if leaf.is_floating_point()]
    return sum(parts[1:], parts[0])


def real_peak(
    network: nn.Module,
    inputs: tuple[Tensor, ...],
    loss: Callable[..., Tensor] | None = None,
    *,
    others: Iterable[Tensor] = (),
) -> int:
    """The peak of a step without an update, run once before.

    Args:
        network: What is trained, as a copy.
        inputs: Its arguments.
        loss: Of the output; None: the sum of all.
        others: Tensors that exist besides, such as labels.
    """
    network = copy.deepcopy(network)

    def step() -> None:
        output = network(*inputs)
        value = total(output) if loss is None else loss(output)
        torch.clear_autocast_cache()
        if value.requires_grad:
            value.backward()
        for tensor in (*network.parameters(), *inputs):
            tensor.grad = None

    step()
    watch = Watch()
    watch.see([*network.parameters(), *network.buffers(), *inputs, *others])
    with uncollected(), watch:
        step()
    return watch.peak
