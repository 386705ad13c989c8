"""A module of which every forward pass saves lean: a mark on it, and two hooks for all modules.

Hooks for all modules leave the class, the state dict, the module's own hooks, copies and pickles as
they are: a forward that is replaced on the object would run with the original's weights in a copy.
"""

from __future__ import annotations

import sys
import threading
from types import FrameType
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

from gaslayers._checks import bad_value, check_module
from gaslayers._watching import watches_only
from gaslayers.lean.engine.aside import reason_to_step_aside
from gaslayers.lean.engine.context import Saving
from gaslayers.lean.engine.recompute import Recompute, check_recompute

_Module = TypeVar("_Module", bound=nn.Module)

_MARK = "_gaslayers_lean"


class Mark:
    """On a module: its forward passes save lean. Whoever unpickles it gets the hooks, too."""

    def __init__(self, recompute: Recompute) -> None:
        self.recompute = recompute
        _install()

    def __reduce__(self) -> tuple[Any, ...]:
        return Mark, (self.recompute,)


class _Passes(threading.local):
    """The forward passes of marked modules that a thread is in, the outermost first."""

    def __init__(self) -> None:
        self.entered: list[tuple[FrameType, Saving | None]] = []


_passes = _Passes()
_lock = threading.Lock()
_is_installed = False


def _install() -> None:
    """Register the two hooks, once a process."""
    global _is_installed
    with _lock:
        if not _is_installed:
            register_module_forward_pre_hook(_enter)
            register_module_forward_hook(_leave, always_call=True)
            _is_installed = True


@watches_only
def _enter(module: nn.Module, _: Any) -> None:
    if torch.compiler.is_compiling() or _MARK not in module.__dict__:
        return
    entered = _passes.entered
    if entered:
        _leave_interrupted(entered)
    mark: Mark = module.__dict__[_MARK]
    saving = None if reason_to_step_aside() is not None else Saving(mark.recompute)
    if saving is not None:
        saving.__enter__()
    entered.append((sys._getframe(1), saving))


@watches_only
def _leave(module: nn.Module, _: Any, __: Any) -> None:
    if torch.compiler.is_compiling() or _MARK not in module.__dict__:
        return
    if _passes.entered:
        _, saving = _passes.entered.pop()
        if saving is not None:
            saving.__exit__(None, None, None)


def _leave_interrupted(entered: list[tuple[FrameType, Saving | None]]) -> None:
    """Leave passes that an interrupt from the keyboard ended, of which PyTorch calls no hook."""
    running = set()
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        running.add(frame)
        frame = frame.f_back
    while entered and entered[-1][0] not in running:
        _, saving = entered.pop()
        if saving is not None:
            saving.__exit__(None, None, None)


def is_lean(module: nn.Module) -> bool:
    """Whether `make_lean` was called on this very module."""
    return _MARK in module.__dict__


def unmark(module: nn.Module) -> None:
    """Undo `make_lean` for a module and all that is in it."""
    for part in module.modules():
        part.__dict__.pop(_MARK, None)


def make_lean(module: _Module, *, recompute: Recompute = "cheap") -> _Module:
    """Let every forward pass of a module save lean: the same object, trained from less memory.

    Outputs, gradients of any order, buffers and random numbers stay the same to the bit. So do the
    class, the state dict's keys, hooks, copies and pickles; copies are lean, too. What the forward
    pass computes outside of a call of the module, as by ``module.forward(x)``, is saved as before.

    Args:
        module: Any module.
        recompute: ``"cheap"`` runs again what takes no time beside a convolution: norms,
            activations, sums, copies. ``"convolutions"`` drops outputs of convolutions and matrix
            products, too, of two in a row one, and runs those again.

    Returns:
        The module itself.

    Raises:
        TypeError: It is no module.
        ValueError: It is lean already, or ``recompute`` is neither of the two.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from gaslayers import make_lean
        >>> discriminator = make_lean(nn.Sequential(nn.Conv2d(3, 8, 4, 2, 1), nn.LeakyReLU(0.2)))
        >>> discriminator(torch.randn(2, 3, 16, 16)).sum().backward()
    """
    check_module("make_lean", module)
    if is_lean(module):
        raise bad_value("make_lean", "module", "not be lean already", type(module).__name__)
    check_recompute("make_lean", recompute)
    module.__dict__[_MARK] = Mark(recompute)
    return module


def make_plain(module: _Module) -> _Module:
    """Undo `make_lean`.

    Args:
        module: A module that is lean.

    Returns:
        The module itself.

    Raises:
        TypeError: It is no module.
        ValueError: It is not lean.
    """
    check_module("make_plain", module)
    if not is_lean(module):
        raise bad_value("make_plain", "module", "be lean", type(module).__name__)
    del module.__dict__[_MARK]
    return module
