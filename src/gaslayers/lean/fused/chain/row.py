"""Units in a row: whether they run as a chain, from which unit on, and how they do."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from gaslayers._typing import MemoryEfficient
from gaslayers.lean.execution import (
    Execution,
    plain,
    reason_against_fusing,
    reason_against_lean,
    takes_input,
)
from gaslayers.lean.fused.chain.chain import run_units
from gaslayers.lean.fused.chain.kept_maps import ALLOWANCE, KeptMaps, choose_start
from gaslayers.lean.fused.chain.unit_cost import shape_of
from gaslayers.lean.fused.parts.units import Unit, reason_against_unit
from gaslayers.lean.layout import channels_vary_fastest
from gaslayers.lean.modules import are_plain
from gaslayers.lean.precision import has_autocast

_DTYPES = (torch.float32, torch.float64)


@dataclasses.dataclass(slots=True)
class Row:
    """Units that a block runs one after another.

    Args:
        units: The units in order.
        run_plain: Their plain composition.
        reason: What speaks against any lean path; None: nothing.
        recompute: Whether the fewest values are kept at any price.
        is_branch: Whether the output is concatenated with others.
        input_is_kept: Whether something else keeps the input in any case.
    """

    units: Sequence[Unit]
    run_plain: Callable[[Tensor], Tensor]
    reason: str | None
    recompute: bool = False
    is_branch: bool = False
    input_is_kept: bool = False

    def _choose(self, x: Tensor | None = None) -> tuple[int, KeptMaps] | None:
        weights = [unit.weight for unit in self.units if unit.weight is not None]
        tensors = weights if x is None else [x, *weights]
        return choose_start(
            tuple(shape_of(unit) for unit in self.units),
            sliced=self.is_branch
            and weights[0].device.type == "cpu"
            and any(map(channels_vary_fastest, tensors)),
            input_is_kept=self.input_is_kept,
            allowance=math.inf if self.recompute else ALLOWANCE,
        )

    @property
    def execution(self) -> Execution:
        """The path that the next forward takes, and why."""
        reason = self.reason or reason_against_fusing()
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
        reason = self.reason or reason_against_fusing()
        is_lean = torch.is_grad_enabled() and reason is None and self._suits(x)
        chosen = self._choose(x) if is_lean else None
        if chosen is None:
            return self.run_plain(x)
        start, choice = chosen
        for unit in self.units[:start]:
            x = unit.module(x)
        return run_units(self.units[start:], x, choice.keep)

    def _suits(self, x: Tensor) -> bool:
        """Whether the chain takes this input; else it is PyTorch's to handle or to refuse."""
        tensors = [x, *(t for unit in self.units for t in unit.tensors if t is not None)]
        kinds = {(tensor.dtype, tensor.device) for tensor in tensors}
        height, width = x.shape[2:]
        for unit in self.units:
            rows, columns = unit.conv.stride
            height, width = -(-height // rows), -(-width // columns)
        # A norm refuses a single value a channel.
        several = x.shape[0] * height * width > 1
        return (
            several
            and takes_input(x)
            and are_plain(tensors)
            and len(kinds) == 1
            and any(tensor.requires_grad for tensor in tensors)
        )


def reasons_against_chains(
    containers: Iterable[nn.Module],
    rows: Sequence[Sequence[Unit]],
    memory_efficient: MemoryEfficient,
) -> list[str | None]:
    """What speaks against any path that does not call the units of each row; None: nothing.

    Args:
        containers: What holds the units within the block.
        rows: The units of each.
        memory_efficient: The block's own setting.
    """
    foreign = [[reason_against_unit(unit) for unit in units] for units in rows]
    replaced = list(containers)
    for units, reasons in zip(rows, foreign, strict=True):
        for unit, reason in zip(units, reasons, strict=True):
            # What is foreign about a unit is for its own row, which calls it.
            if reason is None:
                replaced += unit.module, unit.conv, unit.norm, unit.activation
    reason = reason_against_lean(replaced, memory_efficient=bool(memory_efficient))
    weights = [unit.weight for units in rows for unit in units[:1] if unit.weight is not None]
    reason = reason or _reason_against_precision(weights[:1])
    return [reason or next(filter(None, reasons), None) for reasons in foreign]


def _reason_against_precision(weights: Iterable[Tensor]) -> str | None:
    for weight in weights:
        if has_autocast(weight.device):
            return "autocast is on"
        if weight.dtype not in _DTYPES:
            return f"the weights are {weight.dtype}, neither float32 nor float64"
    return None


def side_by_side(executions: Iterable[Execution]) -> Execution:
    """What branches do, each lean way once; plain if all of them are."""
    executions = list(executions)
    lean = [execution for execution in executions if execution.is_lean]
    if not lean:
        return executions[-1]
    paths = dict.fromkeys(execution.path for execution in lean)
    reasons = dict.fromkeys(execution.reason for execution in lean)
    return Execution(", ".join(paths), "; ".join(reasons))


def _units_on_their_own(units: Sequence[Unit], reason: str) -> Execution:
    """Each unit by its own path, which the first one that is lean stands for."""
    for unit in units:
        own = unit.module.execution
        if own.is_lean:
            return Execution(own.path, f"{own.reason}; {reason}")
    return plain(reason)
