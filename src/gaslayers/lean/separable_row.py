"""Units in a row: whether they run as a chain, from which unit on, and how they do."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gaslayers.lean.execution import Execution, plain, reason_for_plain
from gaslayers.lean.layout import channels_vary_fastest
from gaslayers.lean.separable import run_units
from gaslayers.lean.separable_cost import ALLOWANCE, Choice, choose_start, shape_of
from gaslayers.lean.separable_step import reason_against_step, tensors_of

_DTYPES = (torch.float32, torch.float64)


@dataclasses.dataclass(frozen=True)
class Row:
    """Units that a block runs one after another.

    Args:
        units: The units, each a `gaslayers.lean.separable_step.Unit`.
        run_plain: Their plain composition.
        replaced: All modules that a chain does not call: the units, their parts and whatever
            contains them within the block.
        memory_efficient: The block's own word; ``"recompute"``: the fewest values at any price.
        is_branch: Whether the output is concatenated with others.
        input_is_kept: Whether something else keeps the input in any case.
        reason: What the block has against a chain; None: nothing.
    """

    units: Sequence[Any]
    run_plain: Callable[[Tensor], Tensor]
    replaced: Sequence[nn.Module]
    memory_efficient: bool | str
    is_branch: bool = False
    input_is_kept: bool = False
    reason: str | None = None

    def reason_for_plain(self) -> str | None:
        """What speaks against a chain whatever its cost and the input; None: nothing."""
        reason = self.reason or reason_for_plain(
            self.replaced, memory_efficient=bool(self.memory_efficient)
        )
        if reason is not None:
            return reason
        if torch.compiler.is_compiling():
            return "the compiler plans the memory of what it compiles"
        if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            return "the tracer does not look into autograd functions"
        for unit in self.units:
            reason = reason_against_step(unit)
            if reason is not None:
                return reason
        return reason_against_precision(self.units[0].conv.weight)

    def _choose(self, x: Tensor | None = None) -> tuple[int, Choice] | None:
        weights = [unit.conv.weight for unit in self.units]
        tensors = weights if x is None else [x, *weights]
        return choose_start(
            tuple(shape_of(unit) for unit in self.units),
            sliced=self.is_branch
            and weights[0].device.type == "cpu"
            and any(map(channels_vary_fastest, tensors)),
            input_is_kept=self.input_is_kept,
            allowance=math.inf if self.memory_efficient == "recompute" else ALLOWANCE,
        )

    @property
    def execution(self) -> Execution:
        """The path that the next forward takes, and why."""
        reason = self.reason_for_plain()
        chosen = None if reason else self._choose()
        if chosen is None:
            return _units_on_their_own(self.units, reason or "a chain would not keep less")
        start, choice = chosen
        kept, count = sum(choice.keep), len(choice.keep)
        front = f", after {start} on their own" if start else ""
        return Execution(
            "unit chain", f"of {count} units{front}, {kept} maps are kept beside the input"
        )

    def run(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, out_channels, H', W'), by the chain where there is one."""
        if not torch.is_grad_enabled() or self.reason_for_plain() or not self._suits(x):
            return self.run_plain(x)
        chosen = self._choose(x)
        if chosen is None:
            return self.run_plain(x)
        start, choice = chosen
        for unit in self.units[:start]:
            x = unit(x)
        return run_units(self.units[start:], x, choice.keep)

    def _suits(self, x: Tensor) -> bool:
        """Whether the chain takes this input; else it is PyTorch's to handle or to refuse."""
        tensors = [x, *(t for unit in self.units for t in tensors_of(unit) if t is not None)]
        kinds = {(tensor.dtype, tensor.device) for tensor in tensors}
        height, width = x.shape[2:]
        for unit in self.units:
            rows, columns = unit.conv.stride
            height, width = -(-height // rows), -(-width // columns)
        # A norm refuses a single value a channel.
        several = x.shape[0] * height * width > 1
        return several and len(kinds) == 1 and any(tensor.requires_grad for tensor in tensors)


def modules_of(containers: Iterable[nn.Module], units: Iterable[Any]) -> list[nn.Module]:
    """The units, their parts and what contains them."""
    parts = [(unit, unit.conv, unit.norm, unit.activation) for unit in units]
    return [*containers, *itertools.chain.from_iterable(parts)]


def side_by_side(executions: Iterable[Execution]) -> Execution:
    """What branches do, each lean way once; plain if all of them are."""
    executions = list(executions)
    lean = list(dict.fromkeys(execution for execution in executions if execution.is_lean))
    if not lean:
        return executions[-1]
    paths = dict.fromkeys(execution.path for execution in lean)
    reasons = dict.fromkeys(execution.reason for execution in lean)
    return Execution(", ".join(paths), "; ".join(reasons))


def reason_against_precision(weight: Tensor) -> str | None:
    """What speaks against computing anything otherwise than the plain composition."""
    device = weight.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return "autocast is on"
    if weight.dtype not in _DTYPES:
        return f"the weights are {weight.dtype}, neither float32 nor float64"
    return None


def _units_on_their_own(units: Sequence[Any], reason: str) -> Execution:
    """Each unit by its own path, which the first one that is lean stands for."""
    for unit in units:
        own = unit.execution
        if own.is_lean:
            return Execution(own.path, f"{own.reason}; {reason}")
    return plain(reason)
