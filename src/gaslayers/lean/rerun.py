"""What a backward pass needs to compute again what its forward pass computed."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from gaslayers.lean.precision import has_autocast

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@dataclasses.dataclass(frozen=True)
class Precision:
    """The autocast that a forward pass ran under; a backward pass runs under another or none.

    Args:
        device_type: The kind of device.
        dtype: What autocast computes in; None: it is off.
    """

    device_type: str
    dtype: torch.dtype | None

    @classmethod
    def of(cls, x: Tensor) -> Precision:
        """That which is on now for tensors like ``x``."""
        kind = x.device.type
        return cls(kind, torch.get_autocast_dtype(kind) if has_autocast(x.device) else None)

    def restored(self) -> AbstractContextManager[Any]:
        """Compute as in the forward pass."""
        if self.dtype is not None:
            # Without its cache, which would hand on casts of weights that are part of no graph.
            return torch.autocast(self.device_type, self.dtype, cache_enabled=False)
        if torch.amp.is_autocast_available(self.device_type):
            return torch.autocast(self.device_type, enabled=False)
        return nullcontext()


def stand_ins(tensors: Sequence[Any], wanted: Sequence[bool]) -> list[Any]:
    """Tensors to compute from again, so that the gradient of each is its own.

    One of them may be a function of another. Where gradients are differentiated, each is a view,
    a part of the graph; else it is cut off from the graph. A gradient is wanted whatever the
    tensor says by now: it may have been frozen since the forward pass. None stays None.
    """
    differentiated = torch.is_grad_enabled()

    def stand_in(tensor: Tensor, *, is_wanted: bool) -> Tensor:
        if not is_wanted:
            return tensor if differentiated else tensor.detach()
        if differentiated and tensor.requires_grad:
            return tensor.view_as(tensor)
        return tensor.detach().requires_grad_()

    return [
        tensor if tensor is None else stand_in(tensor, is_wanted=is_wanted)
        for tensor, is_wanted in zip(tensors, wanted, strict=True)
    ]


def gradients_of(
    made: Tensor, grad: Tensor, inputs: Sequence[Tensor | None], wanted: Sequence[bool]
) -> list[Tensor | None]:
    """The gradients of these stand-ins, where they are wanted.

    Args:
        made: A function of the stand-ins.
        grad: Its gradient.
        inputs: As from `stand_ins`.
        wanted: Which gradients to find.
    """
    asked = [x for x, is_wanted in zip(inputs, wanted, strict=True) if is_wanted and x is not None]
    if not asked:
        return [None] * len(wanted)
    found = iter(torch.autograd.grad(made, asked, grad, create_graph=torch.is_grad_enabled()))
    return [next(found) if is_wanted else None for is_wanted in wanted]


SavedKind: TypeAlias = tuple[torch.dtype, torch.Size]


def kinds_of(tensors: Iterable[Tensor | None]) -> list[SavedKind | None]:
    """What `as_saved` compares with later."""
    return [None if tensor is None else (tensor.dtype, tensor.shape) for tensor in tensors]


def as_saved(tensors: Iterable[Tensor | None], kinds: Iterable[SavedKind | None]) -> list[Any]:
    """Saved tensors as they were in the forward pass, lines and tables of lines without gaps.

    PyTorch's operators for batch norm trust sizes, and read a line that has gaps as if it had none.

    Raises:
        RuntimeError: One comes back in another dtype or shape: the module's dtype was changed since
            then, or a hook on saved tensors returned something else.
    """
    found = []
    for tensor, kind in zip(tensors, kinds, strict=True):
        if tensor is not None and kind is not None:
            dtype, shape = kind
            if tensor.dtype != dtype:
                raise RuntimeError(
                    f"expected a tensor of {dtype}, as in the forward pass, but found "
                    f"{tensor.dtype}: a dtype was changed before the backward pass."
                )
            if tensor.shape != shape:
                raise RuntimeError(
                    f"expected a tensor of shape {tuple(shape)}, as in the forward pass, but found "
                    f"{tuple(tensor.shape)}: a hook on saved tensors returned another one."
                )
        is_line = tensor is not None and tensor.dim() <= 2
        found.append(tensor.contiguous() if tensor is not None and is_line else tensor)
    return found


def save(ctx: Any, *tensors: Tensor | None, watched: Sequence[Tensor] = ()) -> None:
    """Save tensors for the backward pass, which has them again by `saved`.

    Args:
        ctx: Of the autograd function.
        *tensors: The tensors.
        watched: Others, whose values are not read again; a change of them is refused.
    """
    ctx.kinds = kinds_of(tensors)
    ctx.save_for_backward(*tensors, *watched)


def saved(ctx: Any) -> list[Any]:
    """What `save` was given, as `as_saved` has it."""
    return as_saved(ctx.saved_tensors[: len(ctx.kinds)], ctx.kinds)


def as_called(module: nn.Module) -> nn.Module:
    """A module as it is at its call, with the same tensors, to be called again without hooks.

    What is changed in the module until then, its configuration or the layers in it, the call did
    not read; and hooks that there are by then came after it.
    """
    made = type(module).__new__(type(module))
    made.__dict__.update(module.__dict__)
    for name in ("_parameters", "_buffers"):
        made.__dict__[name] = module.__dict__[name].copy()
    made.__dict__.update({name: OrderedDict() for name in _HOOKS})
    made.__dict__["_modules"] = {
        name: None if child is None else as_called(child)
        for name, child in module.__dict__["_modules"].items()
    }
    return made
