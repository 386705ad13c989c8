"""Training steps on fake tensors, with every byte followed."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

from gaslayers._checks import bad_type, bad_value
from gaslayers.accounting._live_bytes import (
    BACKWARD,
    BUFFERS,
    FOREACH,
    FORWARD,
    GRADIENTS,
    INPUTS,
    OPTIMIZER,
    PARAMETERS,
    STATE,
    Change,
    LiveBytes,
    Storage,
)
from gaslayers.accounting._recurrent import hidden_workspaces_refused
from gaslayers.accounting._sandbox import Call
from gaslayers.accounting._sweep import sweep_allocator, sweep_step
from gaslayers.accounting._whereabouts import Whereabouts
from gaslayers.accounting.peak_report import PeakReport

OptimizerFactory: TypeAlias = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
"""What makes an optimiser of parameters, as `torch.optim.Adam`."""

_MULTI_TENSOR = ("cuda", "xpu")  # where optimisers are so by default


@dataclass(frozen=True)
class _Step:
    """One step of the record.

    Args:
        before: What was alive when it began.
        changes: What was born and died in it.
    """

    before: list[tuple[Storage, int]]
    changes: list[Change]


class Rehearsal:
    """Run steps of fake modules and keep what each takes.

    Args:
        owner: Who asks, for error messages.
        fakes: The mode that made the modules' tensors.
        call: The fake module that all others are parts of, and all inputs.
    """

    def __init__(self, owner: str, fakes: FakeTensorMode, call: Call) -> None:
        self.steps: dict[str, list[_Step]] = {}
        self._owner = owner
        self._fakes = fakes
        self._call = call
        self._where = Whereabouts(call.module)
        self._live = LiveBytes(owner, fakes, self._where)
        self._scalars_are_on_host = True
        self._home = next((tensor.device.type for tensor in call.tensors()), "cpu")

    @contextmanager
    def running(self) -> Iterator[None]:
        """Compute with fakes within, following their storages."""
        collects = gc.isenabled()
        with ExitStack() as stack:
            stack.callback(self._live.restore_strangers)
            stack.enter_context(torch.enable_grad())
            if "torch._dynamo" in sys.modules:  # else nothing has been compiled
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            stack.enter_context(self._where.watching())
            stack.enter_context(hidden_workspaces_refused(self._owner, self._where))
            self._live.mark(BUFFERS, self._call.tensors())  # attributes among them
            self._mark_residents()
            stack.enter_context(self._fakes)
            stack.enter_context(self._live)
            if collects:  # a collection at a random moment would end lives at random
                gc.disable()
                stack.callback(gc.enable)
            yield

    def _mark_residents(self) -> None:
        self._live.mark(BUFFERS, self._call.module.buffers())
        self._live.mark(PARAMETERS, self._call.module.parameters())
        self._live.mark(INPUTS, self._call.inputs())

    def make_optimizer(self, factory: OptimizerFactory | None, module: nn.Module) -> Any:
        """The optimiser of the module's parameters, as the device's default has it; or None."""
        if factory is None:
            return None
        optimizer = factory(module.parameters())
        if not isinstance(optimizer, torch.optim.Optimizer):
            remedy = "Pass the class or a partial, as torch.optim.Adam."
            raise bad_type(
                self._owner, "optimizer", "make a torch.optim.Optimizer", optimizer, remedy
            )
        if self._home in _MULTI_TENSOR:
            _set_foreach(optimizer)
        return optimizer

    def step(self, name: str, forward: Callable[[], tuple[Tensor, Any]], optimizer: Any) -> None:
        """Run one step: forward, backward, update, and no gradients at its end.

        Args:
            name: The kind of step.
            forward: Returns the loss, and what else is alive until the step ends.
            optimizer: What updates; None: nothing does.
        """
        live = self._live
        before, start = live.alive(), len(live.changes)
        self._begin(FORWARD)
        loss, _outputs = forward()
        torch.clear_autocast_cache()  # as the end of a context around the forward pass does
        live.mark_activations()
        self._begin(BACKWARD)
        self._check_loss(loss)
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
        leaves = [t for t in self._call.tensors() if t.is_leaf]
        live.mark(GRADIENTS, [leaf.grad for leaf in leaves if leaf.grad is not None])
        self._begin(OPTIMIZER)
        if optimizer is not None:
            optimizer.step()
            state = pytree.tree_leaves(list(optimizer.state.values()))
            live.mark(STATE, [leaf for leaf in state if isinstance(leaf, Tensor)])
            self._step_again(optimizer)
        for leaf in leaves:
            leaf.grad = None
        del loss, _outputs, leaves
        self._mark_residents()
        self.steps.setdefault(name, []).append(_Step(before, live.changes[start:]))

    def _begin(self, phase: str) -> None:
        self._where.reset()
        self._live.phase = phase

    def _check_loss(self, loss: Any) -> None:
        if not isinstance(loss, Tensor):
            raise bad_type(self._owner, "loss", "return a tensor", loss)
        if loss.numel() != 1:
            remedy = "Reduce it, as by a mean."
            raise bad_value(self._owner, "loss", "return a scalar", tuple(loss.shape), remedy)
        trained = [t for t in self._call.tensors() if t.requires_grad]
        if trained and not loss.requires_grad:
            rule = "return what depends on the parameters"
            raise bad_value(self._owner, "loss", rule, "a loss without gradient")

    def _step_again(self, optimizer: torch.optim.Optimizer) -> None:
        """Once more as on CUDA, where an update takes all parameters at once."""
        if self._home in _MULTI_TENSOR:
            return
        options = [dict(group) for group in optimizer.param_groups]
        self._scalars_are_on_host = not any(
            group.get("capturable") or group.get("fused") for group in options
        )
        if _set_foreach(optimizer):
            self._begin(FOREACH)
            optimizer.step()
            self._begin(OPTIMIZER)
            for group, old in zip(optimizer.param_groups, options, strict=True):
                group["foreach"] = old.get("foreach")

    def report(self, name: str, title: str) -> PeakReport:
        """What the steps of this kind took, under a title for what they trained."""
        first, *_, last = [*self.steps[name][:1], *self.steps[name]]
        captured = self._live.captured
        allocator_peak, allocator_start = sweep_allocator(
            [*captured, *last.before], last.changes, self._is_on_host
        )
        sizes = [tensor.shape[0] for tensor in self._call.inputs() if tensor.dim()]
        return PeakReport(
            module=title,
            batch_size=sizes[0] if sizes else None,
            first_step=sweep_step([*captured, *first.before], first.changes),
            steady_state=sweep_step([*captured, *last.before], last.changes),
            allocator_peak=allocator_peak,
            allocator_start=allocator_start,
        )

    def _is_on_host(self, storage: Storage) -> bool:
        """Whether CUDA's allocator has no part in it, as in the counters of an optimiser."""
        if self._home != "cpu":
            return storage.device != self._home
        in_update = storage.phase in (OPTIMIZER, FOREACH)
        return in_update and storage.is_scalar and self._scalars_are_on_host


def _set_foreach(optimizer: torch.optim.Optimizer) -> bool:
    """Have those groups take all parameters at once that left it open; whether any did."""
    found = False
    for group in optimizer.param_groups:
        taken = group.get("fused") or group.get("differentiable")
        if "foreach" in group and group["foreach"] is None and not taken:
            group["foreach"] = True
            found = True
    return found
