"""A twin of a module and its inputs whose tensors have shapes and storages but no memory."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, UnsupportedFakeTensorException
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from gaslayers._checks import bad_type, bad_value
from gaslayers.accounting._sandbox import _COPY_ERRORS, Call, _uncopyable

_T = TypeVar("_T")


class _FakeCopies(TorchFunctionMode):
    """Have `copy.deepcopy` make a fake of every tensor that it comes to, wherever it is kept."""

    def __init__(self, mode: FakeTensorMode) -> None:
        super().__init__()
        self._mode = mode

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        # A parameter copies itself by `clone`, any other tensor by `__deepcopy__`.
        if func is Tensor.__deepcopy__:
            tensor, memo = args
            memo[id(tensor)] = make_fake(self._mode, tensor)
            return memo[id(tensor)]
        if func is Tensor.clone:
            return make_fake(self._mode, args[0])
        return func(*args, **(kwargs or {}))


def make_fake(mode: FakeTensorMode, tensor: Tensor) -> FakeTensor:
    """A fake of the same shape, strides, device and storage size; views share a storage."""
    if tensor.is_leaf:
        fake = mode.from_tensor(tensor)
    else:  # as the weight of torch.nn.utils.weight_norm, or a generator's output
        fake = mode.from_tensor(tensor.detach())
        fake.requires_grad_(tensor.requires_grad)
    fake.grad = None  # a step begins without gradients
    return fake


def _keep_value(fake: FakeTensor, tensor: Tensor) -> None:
    """Let the value be read, as of a counter of batches that a forward pass divides by."""
    if tensor.numel() == 1 and not tensor.requires_grad and tensor.device.type == "cpu":
        fake.constant = tensor.detach().clone()


def fake_twin(owner: str, mode: FakeTensorMode, call: Call, companions: _T) -> tuple[Call, _T]:
    """Copy the call, and what belongs to it such as a loss, onto fake tensors.

    A loss that is a module, or a method of the called one, becomes the twin's. Compiled modules
    lose their compiled code.

    Args:
        owner: Who asks, for error messages.
        mode: What makes the fakes; it is not active while they are made.
        call: A module and its arguments.
        companions: Further objects, in a tuple.
    """
    memo: dict[int, Any] = {}
    try:
        for tensor in _tensors(call):
            if id(tensor) not in memo:
                memo[id(tensor)] = make_fake(mode, tensor)
        for part in call.module.modules():
            for buffer in part._buffers.values():
                if buffer is not None:
                    _keep_value(memo[id(buffer)], buffer)
        with _FakeCopies(mode):
            original = (call.module, call.args, call.kwargs, companions)
            module, args, kwargs, companions = copy.deepcopy(original, memo)
    except UnsupportedFakeTensorException as error:
        rule = "hold plain tensors"
        raise bad_value(owner, "module", rule, str(error)) from error
    except _COPY_ERRORS as error:
        place = _uncopyable(call.module) or "among the inputs"
        remedy = f"It runs on a copy, so that yours stays as it is ({error})."
        raise bad_type(owner, "module", "be one that can be copied", place, remedy) from error
    return Call(_eager(module), args, kwargs), companions


def _tensors(call: Call) -> Iterator[Tensor]:
    yield from call.tensors()
    for part in call.module.modules():
        held = [value for name, value in vars(part).items() if name != "_modules"]
        yield from (leaf for leaf in pytree.tree_leaves(held) if isinstance(leaf, Tensor))


def _eager(module: nn.Module) -> nn.Module:
    """The module with what was compiled put in place of its compiled form."""
    root = nn.ModuleList([module])
    for parent in list(root.modules()):
        for name, child in parent._modules.items():
            parent._modules[name] = cast("nn.Module", getattr(child, "_orig_mod", child))
    return root[0]


def fake_zeros(
    mode: FakeTensorMode, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """A fake tensor that no real one stands behind, of any size."""
    with mode:
        return torch.zeros(shape, dtype=dtype, device=device)
