"""Run somebody's module without leaving a trace: on a copy, with every global state put back."""

from __future__ import annotations

import copy
import pickle
import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from gaslayers._checks import bad_type, bad_value
from gaslayers.lean.engine.wrap import is_lean, unmark
from gaslayers.lean.modules import tensors_of

_COPY_ERRORS = (AttributeError, RuntimeError, TypeError, copy.Error, pickle.PicklingError)


@dataclass(frozen=True)
class Call:
    """A module and the arguments of one forward pass."""

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def run(self) -> Any:
        """Run the forward pass."""
        return self.module(*self.args, **self.kwargs)

    def inputs(self) -> list[Tensor]:
        """Every tensor among the arguments."""
        return tensors_of((self.args, self.kwargs))

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor of the module and of its arguments, gradients left out."""
        for module in self.module.modules():
            yield from (t for t in module._parameters.values() if t is not None)
            yield from (t for t in module._buffers.values() if t is not None)
            yield from (t for t in vars(module).values() if isinstance(t, Tensor))
        yield from self.inputs()


def make_call(owner: str, module: Any, inputs: Any, kwargs: Any) -> Call:
    """Check the arguments; a tuple of inputs is positional, anything else is one argument."""
    if not isinstance(module, nn.Module):
        raise bad_type(owner, "module", "be a torch.nn.Module", module)
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise bad_type(owner, "kwargs", "be a mapping of keyword arguments or None", kwargs)
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        module = module.module
    call = Call(module, inputs if type(inputs) is tuple else (inputs,), dict(kwargs or {}))
    _check_runnable(owner, call)
    return call


def _check_runnable(owner: str, call: Call) -> None:
    for name, tensor in [*call.module.named_parameters(), *call.module.named_buffers()]:
        if torch.nn.parameter.is_lazy(tensor):
            remedy = "Run one forward pass first, so that its shape is known."
            raise bad_value(owner, "module", "be initialised", f"lazy {name}", remedy)
    for name, module in call.module.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            remedy = "Pass the module that it was made of."
            raise bad_type(owner, "module", "not be scripted", name or type(module), remedy)
    if any(tensor.is_meta or isinstance(tensor, FakeTensor) for tensor in call.tensors()):
        remedy = "Use real ones; a batch of one is enough, see CountReport.scaled."
        raise bad_value(owner, "module", "be run on tensors that hold values", "meta", remedy)


def copied(owner: str, call: Call) -> Call:
    """Copy the module and its arguments, so that nothing the copy does reaches the original."""
    memo: dict[int, Any] = {}
    for tensor in call.tensors():
        if not tensor.is_leaf:  # as the weight of torch.nn.utils.weight_norm
            twin = tensor.detach().clone().requires_grad_(tensor.requires_grad)
            memo[id(tensor)] = twin
    try:
        return Call(*copy.deepcopy((call.module, call.args, call.kwargs), memo))
    except _COPY_ERRORS as error:
        place = _uncopyable(call.module) or "among the inputs"
        remedy = f"It runs on a copy, so that yours stays as it is ({error})."
        raise bad_type(owner, "module", "be one that can be copied", place, remedy) from error


def _uncopyable(module: nn.Module) -> str | None:
    """The first attribute that cannot be copied, by its full name."""
    for prefix, part in module.named_modules():
        for name, value in vars(part).items():
            # Submodules come later, under their own names.
            if name != "_modules" and not _is_copyable(value):
                return f"{prefix}.{name}".removeprefix(".")
    return None


def _is_copyable(value: Any) -> bool:
    try:
        copy.deepcopy(value)
    except _COPY_ERRORS:
        return False
    return True


def plain_twin(owner: str, call: Call) -> Call:
    """Copy the call in the form whose operators are the layers that the module stands for.

    Whatever has a `memory_efficient` is switched to its plain composition, compiled modules lose
    their compiled code, lean ones are made plain: all compute the same as what they replace.
    """
    twin = copied(owner, call)
    root = nn.ModuleList([twin.module])
    for parent in list(root.modules()):
        for name, child in parent._modules.items():
            parent._modules[name] = cast("nn.Module", getattr(child, "_orig_mod", child))
    for module in root.modules():
        if getattr(module, "memory_efficient", False):
            module.memory_efficient = False  # type: ignore[assignment]  # a block has it
    unmark(root)
    return Call(root[0], twin.args, twin.kwargs)


def has_plain_twin(module: nn.Module) -> bool:
    """Whether anything of it is lean."""
    return any(
        getattr(part, "memory_efficient", False) or is_lean(part) for part in module.modules()
    )


@contextmanager
def isolated(call: Call) -> Iterator[None]:
    """Put every random state back at the end."""
    numpy = sys.modules.get("numpy")
    python_state = random.getstate()
    numpy_state = None if numpy is None else numpy.random.get_state()
    devices: dict[str, set[int]] = {}
    for tensor in call.tensors():
        if tensor.device.type != "cpu":
            devices.setdefault(tensor.device.type, set()).add(tensor.device.index or 0)
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():  # leaving it turns gradients on: not without need
            stack.enter_context(torch.inference_mode(mode=False))
            stack.enter_context(torch.no_grad())
        stack.enter_context(torch.random.fork_rng(devices=[]))
        for kind, indices in devices.items():
            fork = torch.random.fork_rng(devices=sorted(indices), device_type=kind)
            stack.enter_context(fork)
        try:
            yield
        finally:
            random.setstate(python_state)
            if numpy is not None:
                numpy.random.set_state(numpy_state)


@contextmanager
def unfused(module: nn.Module) -> Iterator[None]:
    """Run what is fused or compiled as the operators that it is made of.

    Args:
        module: What will run.
    """
    fast_path = torch.backends.mha.get_fastpath_enabled()
    onednn, cudnn = torch._C._get_mkldnn_enabled(), torch._C._get_cudnn_enabled()
    is_recurrent = any(isinstance(part, nn.RNNBase) for part in module.modules())
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if "torch._dynamo" in sys.modules:  # else nothing has been compiled
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        torch.backends.mha.set_fastpath_enabled(False)
        if is_recurrent:  # a library would run whole layers as one operator
            torch._C._set_mkldnn_enabled(False)
            torch._C._set_cudnn_enabled(False)
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast_path)
            if is_recurrent:
                torch._C._set_mkldnn_enabled(onednn)
                torch._C._set_cudnn_enabled(cudnn)
