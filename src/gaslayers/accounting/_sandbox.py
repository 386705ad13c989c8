"""Run somebody's module without leaving a trace: on a copy, with every global state put back."""

from __future__ import annotations

import copy
import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from gaslayers._checks import bad_type, bad_value


@dataclass(frozen=True)
class Call:
    """A module and the arguments of one forward pass."""

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def run(self) -> Any:
        """Run the forward pass."""
        return self.module(*self.args, **self.kwargs)

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor of the module and its arguments, gradients left out."""
        for module in self.module.modules():
            yield from (t for t in module._parameters.values() if t is not None)
            yield from (t for t in module._buffers.values() if t is not None)
            yield from (t for t in vars(module).values() if isinstance(t, Tensor))
        yield from self.inputs()

    def inputs(self) -> list[Tensor]:
        """Every tensor among the arguments."""
        leaves = pytree.tree_leaves((self.args, self.kwargs))
        return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


def make_call(owner: str, module: Any, inputs: Any, kwargs: Mapping[str, Any] | None) -> Call:
    """Check the arguments of a count; a tuple of inputs is positional, all else one argument."""
    if not isinstance(module, nn.Module):
        raise bad_type(owner, "module", "be a torch.nn.Module", module)
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise bad_type(owner, "kwargs", "be a mapping of keyword arguments or None", kwargs)
    args = inputs if type(inputs) is tuple else (inputs,)
    for wrapper in (nn.DataParallel, nn.parallel.DistributedDataParallel):
        if isinstance(module, wrapper):
            module = module.module
    call = Call(module, args, dict(kwargs or {}))
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if torch.nn.parameter.is_lazy(tensor):
            rule = f"be initialised, but {name!r} is lazy"
            remedy = "Run one forward pass first, so that its shape is known."
            raise bad_value(owner, "module", rule, type(module).__name__, remedy)
    if any(tensor.is_meta for tensor in call.tensors()):
        remedy = "Build it on a real device; a batch of one is enough, see CountReport.scaled."
        raise bad_value(owner, "module", "hold values, as must its inputs", "meta tensors", remedy)
    return call


def copied(call: Call, *, plain: bool) -> Call:
    """Copy the module and its arguments, so that nothing the copy does reaches the original.

    Args:
        call: What to copy; compiled modules are copied without their compiled code.
        plain: Switch every module with a `memory_efficient` to its plain twin, whose operators
            are those of the layers that it stands for.
    """
    memo: dict[int, Any] = {}
    for tensor in call.tensors():
        if not tensor.is_leaf:  # as the weight of torch.nn.utils.weight_norm
            memo[id(tensor)] = tensor.detach().clone().requires_grad_(tensor.requires_grad)
    for module in reversed(list(call.module.modules())):
        if hasattr(module, "_orig_mod"):  # torch.compile's wrapper
            memo[id(module)] = copy.deepcopy(module._orig_mod, memo)
    twin = Call(*copy.deepcopy((call.module, call.args, call.kwargs), memo))
    if plain:
        for module in twin.module.modules():
            if getattr(module, "memory_efficient", False):
                module.memory_efficient = False  # type: ignore[assignment]
    return twin


@contextmanager
def isolated(call: Call) -> Iterator[None]:
    """Put back the random states, and run what is usually fused as the operators it is made of."""
    numpy = sys.modules.get("numpy")
    python_state = random.getstate()
    numpy_state = None if numpy is None else numpy.random.get_state()
    devices: dict[str, set[int]] = {}
    for tensor in call.tensors():
        if tensor.device.type != "cpu":
            devices.setdefault(tensor.device.type, set()).add(tensor.device.index or 0)
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(torch.random.fork_rng(devices=[]))
        for device_type, indices in devices.items():
            fork = torch.random.fork_rng(devices=sorted(indices), device_type=device_type)
            stack.enter_context(fork)
        try:
            yield
        finally:
            random.setstate(python_state)
            if numpy is not None:
                numpy.random.set_state(numpy_state)
