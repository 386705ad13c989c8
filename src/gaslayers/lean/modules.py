"""The one question that every lean path asks about layers that it computes but does not call.

It is asked before every forward pass, and so in few steps.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, TypeVar

import torch
import torch.nn.modules.module as torch_module
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils import _pytree as pytree

from gaslayers._watching import is_watcher

_METHODS = ("__call__", "_call_impl", "forward", "_conv_forward", "_check_input_dim")
"""What runs when a layer is called."""

_OWN_METHODS = frozenset(_METHODS)

PLAIN_KINDS = frozenset({Tensor, nn.Parameter, FakeTensor})
"""Classes of tensors whose operators mean what PyTorch's documentation says."""

_KnownClass = TypeVar("_KnownClass", bound=type[nn.Module])
_Module = TypeVar("_Module", bound=nn.Module)

_known: dict[type[nn.Module], tuple[Any, ...]] = {}


def methods_of(kind: type[nn.Module]) -> tuple[Any, ...]:
    """What runs when a layer of this class is called."""
    return tuple([getattr(kind, name, None) for name in _METHODS])


def register_known(kind: _KnownClass) -> _KnownClass:
    """Let lean paths stand in for layers of this class, as long as its methods are these.

    A subclass is another class: what it computes is not known. A norm that multiplies each channel
    by a constant has a method ``channel_scale`` that returns the constants, of shape (C,).
    """
    _known[kind] = methods_of(kind)
    return kind


for _kind in (
    *(nn.Conv2d, nn.BatchNorm2d, nn.Identity, nn.ReLU, nn.LeakyReLU),
    *(nn.MaxPool2d, nn.AvgPool2d, nn.Dropout, nn.Sequential, nn.ModuleList),
):
    register_known(_kind)


def is_known(kind: type[nn.Module]) -> bool:
    """Whether lean paths may stand in for layers of this class."""
    return kind in _known


def modules_within(*roots: nn.Module) -> list[nn.Module]:
    """These modules and all inside them; one that is there twice may be named twice.

    `torch.nn.Module.modules`, which also makes names, takes several times as long.
    """
    found = list(roots)
    for module in found:  # grows
        if module._modules:
            found += [child for child in module._modules.values() if child is not None]
    return found


def reason_against_replacing(modules: Iterable[nn.Module]) -> str | None:
    """Why these layers must be called, and not only be computed; None: nothing would be missed.

    What a call does besides the known computation: hooks of the module and hooks for all modules,
    a forward of the instance's own, another class or another method of its class. A norm may be
    of a subclass of `torch.nn.BatchNorm2d`, as long as its call is that of the base.
    """
    if _has_global_hooks() and not _all_watch():
        return "a hook for all modules is registered"
    kinds = set()
    for module in modules:
        own = module.__dict__
        if (
            own["_forward_hooks"]
            or own["_forward_pre_hooks"]
            or own["_backward_hooks"]
            or own["_backward_pre_hooks"]
        ):
            return f"a hook sits on an inner {type(module).__name__}"
        if not _OWN_METHODS.isdisjoint(own) or own.get("_compiled_call_impl"):
            return f"an inner {type(module).__name__} has been given another forward"
        if not is_usual(module):
            return f"an inner {type(module).__name__} has been set up otherwise than by PyTorch"
        kinds.add(type(module))
    for kind in kinds:
        known = _known.get(kind)
        if known is None and issubclass(kind, nn.BatchNorm2d):
            known = _known[nn.BatchNorm2d]
        if known is None:
            return f"{kind.__name__} is no layer that lean paths know"
        if known != methods_of(kind):
            return f"{kind.__name__} has been given another forward"
    return None


def is_usual(module: nn.Module) -> bool:
    """Whether a layer's numbers and tensors are as its constructor makes them; asked of two kinds.

    What others take is PyTorch's to say, and to refuse.
    """
    if type(module) is nn.Conv2d:
        geometry = (module.kernel_size, module.stride, module.padding, module.dilation)
        return parameter_of(module, "weight") is not None and all(
            isinstance(part, str) or (type(part) is tuple and len(part) == 2) for part in geometry
        )
    return not isinstance(module, nn.BatchNorm2d) or _is_usual_norm(module)


def _is_usual_norm(norm: nn.BatchNorm2d) -> bool:
    mean, variance = parameter_of(norm, "running_mean"), parameter_of(norm, "running_var")
    if not norm.eps > 0:
        return False
    if mean is None or variance is None:
        return True
    weight = parameter_of(norm, "weight")
    return (
        not (mean.requires_grad or variance.requires_grad)
        and mean.dtype == variance.dtype == (mean if weight is None else weight).dtype
        and 0 not in (*mean.stride(), *variance.stride())
    )


def _has_global_hooks() -> bool:
    return bool(torch_module._has_any_global_hook())  # type: ignore[no-untyped-call]  # untyped


def _all_watch() -> bool:
    """Whether all hooks for all modules are marked as `gaslayers._watching.watches_only`."""
    return all(
        is_watcher(hook)
        for hooks in (
            torch_module._global_forward_hooks,
            torch_module._global_forward_pre_hooks,
            torch_module._global_backward_hooks,
            torch_module._global_backward_pre_hooks,
        )
        for hook in hooks.values()
    )


def are_plain(tensors: Iterable[Tensor]) -> bool:
    """Whether none of these is of a class of its own, whose operators may mean something else."""
    if torch.compiler.is_compiling():  # the compiler takes such tensors apart, or refuses them
        return True
    return PLAIN_KINDS.issuperset(map(type, tensors))


def parameter_of(module: nn.Module, name: str) -> Tensor | None:
    """The parameter or buffer of this name, or what stands in for it.

    A module looks there only after it has looked everywhere else.
    """
    found: Tensor | None
    for tensors in (module._parameters, module._buffers):
        if name in tensors:
            found = tensors[name]
            return found
    found = getattr(module, name)  # computed: by a weight norm, by a functional call, in a replica
    return found


def copied(module: _Module) -> _Module:
    """A deep copy, also of a module that holds a tensor which it computed.

    PyTorch copies no tensor with a graph, such as the weight of `torch.nn.utils.spectral_norm`.
    """
    made = {
        id(value): value.detach().clone().requires_grad_(value.requires_grad)
        for part in module.modules()
        for value in vars(part).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    return copy.deepcopy(module, made)


def tensors_of(tree: Any) -> list[Tensor]:
    """Every tensor in nested tuples, lists and dicts."""
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]
