"""Which path a block takes, and the questions that decide it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.autograd import graph as autograd_graph
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext

from gaslayers._checks import is_tracing
from gaslayers._watching import is_watcher
from gaslayers.lean.modules import are_plain, reason_against_replacing


@dataclasses.dataclass(frozen=True)
class Execution:
    """The path that a block's next forward takes.

    Args:
        path: ``"plain"``, or the name of the lean path.
        reason: Why this one.
    """

    path: str
    reason: str

    @property
    def is_lean(self) -> bool:
        """Whether anything but the plain composition runs."""
        return self.path != "plain"

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def plain(reason: str) -> Execution:
    """The plain composition, for this reason."""
    return Execution("plain", reason)


def reason_against_lean(replaced: Iterable[nn.Module], *, memory_efficient: bool) -> str | None:
    """What speaks against a lean path that does not call these inner modules; None: nothing.

    Args:
        replaced: The modules that the path computes and does not call.
        memory_efficient: Whether the block asks for a lean path at all.
    """
    if not memory_efficient:
        return "memory_efficient=False"
    return reason_against_lean_here() or reason_against_replacing(replaced)


def reason_against_lean_here() -> str | None:
    """What speaks against every lean path at this moment, whatever the layers; None: nothing."""
    if torch._C._are_functorch_transforms_active():  # no public question exists
        return "a torch.func transform is active"
    if forward_ad._current_level >= 0:  # nor here
        return "forward-mode differentiation is active"
    if is_tracing():
        return "the tracer does not look into autograd functions"
    if torch.compiler.is_compiling():
        return "an exported program is one of plain operators" if _is_exporting() else None
    if autograd_graph._allow_mutation_on_saved_tensors_enabled:
        return "saved tensors may be changed, by a mode that knows PyTorch's operators alone"
    if torch._C._len_torch_function_stack() and not modes_are_harmless():
        return "a mode that overrides functions is active"
    return None


def _is_exporting() -> bool:
    is_exporting: Callable[[], bool] | None = getattr(torch.compiler, "is_exporting", None)
    return is_exporting is not None and is_exporting()  # torch 2.7 and later know


def modes_are_harmless() -> bool:
    """Whether all modes of `torch.overrides` that are on choose a device, or look on."""
    modes = _get_current_function_mode_stack()  # type: ignore[no-untyped-call]  # untyped
    return all(type(mode) is DeviceContext or is_watcher(type(mode)) for mode in modes)


def reason_against_fusing() -> str | None:
    """What speaks against one function in place of a chain of layers; None: nothing."""
    if torch.compiler.is_compiling():
        return "the compiler plans the memory of what it compiles"
    return None


def takes_input(x: Tensor) -> bool:
    """Whether a lean path may read this input; what it may not is the plain composition's.

    An empty batch is PyTorch's to handle or to refuse, and so is a tensor of a class of its own.
    """
    if is_tracing():
        return False  # nothing that a size decides would be recorded
    return are_plain((x,)) and x.numel() > 0


def is_batch(grad: Tensor) -> bool:
    """Whether this is many gradients at once, as for a Jacobian (``is_grads_batched=True``).

    Such a tensor has neither memory that a kernel could read nor a memory format.
    """
    if torch.compiler.is_compiling():  # which does not know the question
        return False
    if torch._C._are_functorch_transforms_active():  # a vmap around the backward pass
        return True
    return torch._C._functorch.is_legacy_batchedtensor(grad)
