"""A module of which every forward pass saves lean: a mark on it, and two hooks.

The hooks are functions of this file, so that class, state dict, copies and pickles stay as they
are: a forward that is replaced on the object would run with the original's weights in a copy.
"""

from __future__ import annotations

import dataclasses
import sys
import threading
from types import FrameType
from typing import Any, TypeAlias, TypeVar

import torch
from torch import nn

from gaslayers._checks import bad_value, check_int, check_module
from gaslayers._watching import watches_only
from gaslayers.lean.engine.aside import reason_to_step_aside
from gaslayers.lean.engine.budget import Budget
from gaslayers.lean.engine.context import Saving
from gaslayers.lean.engine.recompute import Recompute, check_recompute, selection_of
from gaslayers.lean.modules import copied

_Module = TypeVar("_Module", bound=nn.Module)

_MARK = "_gaslayers_lean"
"""The attribute with what `make_lean` was told; and the key of the hooks.

PyTorch's own keys are numbers of this process, which a hook of another one may take.
"""


@dataclasses.dataclass(frozen=True)
class _Settings:
    """What `make_lean` was told."""

    recompute: Recompute
    budget: Budget | None

    def begin(self, module: nn.Module, inputs: Any) -> Saving:
        """The context of the module's next forward pass."""
        if self.budget is not None:
            return self.budget.begin(module, inputs)
        return Saving(selection_of(self.recompute))


_Entered: TypeAlias = tuple[FrameType, nn.Module, Saving | None]


class _Passes(threading.local):
    """The forward passes of marked modules that a thread is in, the outermost first."""

    def __init__(self) -> None:
        self.entered: list[_Entered] = []


_passes = _Passes()


@watches_only
def _enter(module: nn.Module, inputs: Any) -> None:
    if torch.compiler.is_compiling():
        return
    entered = _passes.entered
    if entered:
        _leave_interrupted(entered)
    settings: _Settings = module.__dict__[_MARK]
    saving = None if reason_to_step_aside() is not None else settings.begin(module, inputs)
    if saving is not None:
        saving.__enter__()
    entered.append((sys._getframe(1), module, saving))


@watches_only
def _leave(module: nn.Module, _: Any, made: Any) -> None:
    # A hook before ours may have raised, so that this pass was not entered.
    entered = _passes.entered
    if torch.compiler.is_compiling() or not entered or entered[-1][1] is not module:
        return
    *_, saving = entered.pop()
    if saving is not None:
        # PyTorch calls this hook also where the forward pass raised, then without a result.
        saving.__exit__(InterruptedError if made is None else None, None, None)


def _leave_interrupted(entered: list[_Entered]) -> None:
    """Leave passes that an interrupt from the keyboard ended, of which PyTorch calls no hook."""
    running = set()
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        running.add(frame)
        frame = frame.f_back
    while entered and entered[-1][0] not in running:
        *_, saving = entered.pop()
        if saving is not None:
            saving.__exit__(InterruptedError, None, None)


def is_lean(module: nn.Module) -> bool:
    """Whether `make_lean` was called on this very module."""
    return _MARK in module.__dict__


def unmark(module: nn.Module) -> None:
    """Undo `make_lean` for a module and all that is in it."""
    for part in module.modules():
        if is_lean(part):
            make_plain(part)


def make_lean(
    module: _Module,
    *,
    recompute: Recompute = "cheap",
    budget_bytes: int | None = None,
    inputs: Any = None,
) -> _Module:
    """Let every forward pass of a module save lean: the same object, trained from less memory.

    Outputs, gradients of any order, buffers and random numbers stay the same to the bit. So do the
    class, the state dict's keys, hooks, copies and pickles; copies are lean, too. What the forward
    pass computes outside of a call of the module, as by ``module.forward(x)``, is saved as before.

    Args:
        module: Any module.
        recompute: ``"cheap"`` runs again what takes no time beside a convolution: norms,
            activations, sums, copies; and a convolution of few channels, as of an image, which
            multiplies and adds at most 48 times for each value that it makes.
            ``"convolutions"`` drops outputs of all convolutions and matrix products, of two in a
            row one, and runs those again.
        budget_bytes: What a forward pass may keep for its backward pass, beside parameters,
            buffers and its inputs. Outputs of convolutions are dropped as far as that takes, the
            cheapest to run again per byte first. The first pass of each shape drops all that it
            can, and decides for those behind it. ``recompute`` then says nothing.
        inputs: An example of what the module is called with, a tensor or a tuple: a copy of the
            module runs it now, so that a budget that is too small is refused here.

    Returns:
        The module itself.

    Raises:
        TypeError: It is no module, or a budget is no int.
        ValueError: It is lean already, ``recompute`` is neither of the two, there are ``inputs``
            without a budget, or the budget is below the least, which the error names. Without
            ``inputs`` the second forward pass of a shape raises that.

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
    budget = None
    if budget_bytes is not None:
        budget = Budget(
            check_int("make_lean", "budget_bytes", budget_bytes, minimum=0, maximum=2**63 - 1)
        )
    elif inputs is not None:
        raise bad_value("make_lean", "inputs", "come with `budget_bytes`", type(inputs).__name__)
    settings = _Settings(recompute, budget)
    if inputs is not None:
        _try(module, settings, inputs)
    return _mark(module, settings)


def _try(module: nn.Module, settings: _Settings, inputs: Any) -> None:
    """Run a copy, which decides within the budget."""
    twin = _mark(copied(module), settings)
    devices = {p.device for p in module.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=list(devices)), torch.enable_grad():
        for _ in range(Budget.COUNTED):
            twin(*inputs) if isinstance(inputs, tuple) else twin(inputs)


def _mark(module: _Module, settings: _Settings) -> _Module:
    module.__dict__[_MARK] = settings
    hooks: Any = module._forward_pre_hooks
    hooks[_MARK] = _enter
    hooks.move_to_end(_MARK, last=False)
    hooks = module._forward_hooks
    hooks[_MARK] = _leave
    always_called: Any = module._forward_hooks_always_called
    always_called[_MARK] = True
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
    hooks: Any = (
        module._forward_pre_hooks,
        module._forward_hooks,
        module._forward_hooks_always_called,
    )
    for found in (module.__dict__, *hooks):
        found.pop(_MARK)
    return module
