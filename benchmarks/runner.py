"""One way to run one piece of work, and what it keeps and takes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch._functorch.config
import torch._inductor.config
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.workloads import Way, Work, all_work
from gaslayers import measure_peak


class _Living(TorchDispatchMode):
    """Every storage that an operator returns, without keeping it alive."""

    def __init__(self) -> None:
        super().__init__()
        self.storages: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self.storages[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        return result

    def count(self, left_out: set[int]) -> int:
        """Bytes of the storages that are still there."""
        return sum(
            size
            for key, (reference, size) in self.storages.items()
            if key not in left_out and not reference.expired()
        )


def with_code_of_its_own(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """A function that the compiler takes for no other, though networks of one class look alike."""

    def run(x: Tensor) -> Tensor:
        return network(x)

    run.__code__ = run.__code__.replace(co_name=f"run_{id(network)}")
    return run


def _gradients(network: nn.Module, x: Tensor) -> list[Tensor]:
    found = [x.grad, *(parameter.grad for parameter in network.parameters())]
    return [gradient for gradient in found if gradient is not None]


class Runner:
    """One way to run one piece of work, ready to be called again and again."""

    def __init__(self, way: Way, work: Work, device: torch.device) -> None:
        self.way = way
        self.frozen = work.frozen
        network = way.network().to(device).to(memory_format=work.layout)
        self.network = network.requires_grad_(not work.frozen)
        generator = torch.Generator().manual_seed(1)
        x = torch.rand(work.shape, generator=generator).to(device)
        self.x = x.to(memory_format=work.layout).requires_grad_(work.frozen)
        self.module: Callable[[Tensor], Tensor] = self.network
        if way.budget is not None:
            self.module = torch.compile(with_code_of_its_own(self.network), fullgraph=True)
        with self._budget():
            self.output_grad = torch.ones_like(self.module(self.x))
            self.run()

    @contextmanager
    def _budget(self) -> Iterator[None]:
        if self.way.budget is None:
            yield
            return
        # Without its caches, which do not ask for the budget that a graph was compiled under.
        with (
            torch._functorch.config.patch(
                activation_memory_budget=self.way.budget, enable_autograd_cache=False
            ),
            torch._inductor.config.patch(fx_graph_cache=False),
        ):
            yield

    def run(self) -> None:
        """One forward and one backward pass."""
        self.x.grad = None
        for parameter in self.network.parameters():
            parameter.grad = None
        self.module(self.x).backward(self.output_grad)

    def kept_bytes(self) -> int:
        """What autograd keeps after a forward pass."""
        tensors = [*self.network.parameters(), *self.network.buffers()]
        left_out = {tensor.untyped_storage()._cdata for tensor in tensors}
        if self.way.hides:
            with _Living() as living:
                output = self.module(self.x)
            kept = living.count(left_out) + self.x.untyped_storage().nbytes()
            del output
            return kept
        sizes: dict[int, int] = {}
        alive = []

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in left_out:
                sizes[storage._cdata] = storage.nbytes()
            alive.append(tensor)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            output = self.module(self.x)
        del output
        return sum(sizes.values())

    def gradients(self) -> list[Tensor]:
        """All gradients of one run."""
        self.run()
        return _gradients(self.network, self.x)

    def gradients_in_double(self) -> list[Tensor] | None:
        """The same in float64; None: the way is compiled, and that for float32."""
        if self.way.budget is not None:
            return None
        network = copy.deepcopy(self.network).double()
        x = self.x.detach().double().requires_grad_(self.frozen)
        network.zero_grad()
        network(x).backward(self.output_grad.double())
        return _gradients(network, x)

    def peak_allocated(self) -> int | None:
        """The peak of one run on CUDA, parameters included."""
        if self.x.device.type != "cuda":
            return None
        torch.cuda.reset_peak_memory_stats(self.x.device)
        self.run()
        return torch.cuda.max_memory_allocated(self.x.device)


def take_step(title: str, name: str) -> None:
    """Build a way to run a piece of work, and run it once."""
    work = all_work()[title]
    Runner(work.ways[name], work, torch.device("cpu"))


def process_bytes(title: str, name: str) -> int | None:
    """By how much the resident memory of a fresh process rises in one step, network included."""
    return measure_peak(partial(take_step, title, name), device="cpu").process
