"""When the engine steps aside: one question, asked before a forward pass."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.utils import checkpoint

from gaslayers._checks import is_tracing
from gaslayers.lean.engine.whole import Hooks
from gaslayers.lean.execution import modes_are_harmless

OWN = "_gaslayers_saves_lean"
"""On the engine's own hook."""


def reason_to_step_aside() -> str | None:
    """Why nothing is to be saved lean here; None: there is no reason."""
    reason = reason_of_others()
    if reason is None and is_within():
        return "it is saved lean already"
    return reason


def is_within() -> bool:
    """Whether a context of the engine is in force."""
    hooks = outer_hooks()
    return hooks is not None and is_own(hooks)


def reason_of_others() -> str | None:
    """Why the engine can see or decide nothing here, whether or not it does already."""
    if torch.compiler.is_compiling():
        return "torch.compile decides what is saved"
    if not torch.is_grad_enabled():
        return "no gradient is recorded"
    if is_tracing() or get_proxy_mode() is not None:
        return "a tracer records"
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return "torch.func transforms the function"
    if forward_ad._current_level >= 0:
        return "forward-mode differentiation computes tangents"
    if not torch._C._autograd._saved_tensors_hooks_is_enabled():  # type: ignore[attr-defined]
        return "hooks on saved tensors are not allowed"
    if torch._C._len_torch_function_stack() and not modes_are_harmless():
        return "a mode that overrides functions is active"
    hooks = outer_hooks()
    if hooks is not None and _are_of_checkpoint(hooks):
        return "torch.utils.checkpoint keeps nothing"
    return None


def outer_hooks() -> Hooks | None:
    """The hooks on saved tensors that are in force, of somebody else."""
    found: Any = torch._C._autograd._top_saved_tensors_default_hooks(True)
    return found


def is_own(hooks: Hooks) -> bool:
    """Whether they are the engine's: one context within another would take its forms."""
    return hasattr(hooks[0], OWN)


def _are_of_checkpoint(hooks: Hooks) -> bool:
    """Whether they are of a checkpoint that is not reentrant: it runs the module once more."""
    owner = checkpoint.__name__
    return any(getattr(hook, "__module__", None) == owner for hook in hooks)
