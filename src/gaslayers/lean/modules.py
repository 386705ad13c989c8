"""Questions to modules that are asked before every forward pass, and so in few steps."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn


def modules_within(*roots: nn.Module) -> list[nn.Module]:
    """These modules and all inside them; one that is there twice may be named twice.

    `torch.nn.Module.modules`, which also makes names, takes several times as long.
    """
    found = list(roots)
    for module in found:  # grows
        if module._modules:
            found += [child for child in module._modules.values() if child is not None]
    return found


def find_hooked(modules: Iterable[nn.Module]) -> nn.Module | None:
    """The first module that a hook sits on, if any."""
    # Spelled out, it takes a quarter of the time.
    for module in modules:
        if (
            module._forward_hooks
            or module._forward_pre_hooks
            or module._backward_hooks
            or module._backward_pre_hooks
        ):
            return module
    return None


def parameter_of(module: nn.Module, name: str) -> Tensor | None:
    """The parameter or buffer of this name, or what stands in for it.

    A module looks there only after it has looked everywhere else.
    """
    if name in module._parameters:
        return module._parameters[name]
    if name in module._buffers:
        return module._buffers[name]
    found: Tensor | None = getattr(module, name)  # made anew by a parametrisation, say
    return found
