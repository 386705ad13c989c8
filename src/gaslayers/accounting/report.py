"""What a count found, as an object that prints, serialises and scales."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

from gaslayers._checks import bad_value, check_int
from gaslayers.accounting import _tables

_Count = TypeVar("_Count", bound="OperatorCount")


@dataclass(frozen=True, kw_only=True)
class OperatorCount:
    """The cost of all calls of one operator in the forward pass.

    Args:
        macs: Multiply-adds.
        flops: ``2 * macs`` and the elementwise operations.
        activations: Elements written, where the operator has multiply-adds.
        fixed_macs: Multiply-adds that the inputs have no part in, whatever the batch: a weight
            that is computed from parameters.
        fixed_flops: The same of ``flops``.
        fixed_activations: The same of ``activations``.
    """

    macs: int
    flops: int
    activations: int
    fixed_macs: int = 0
    fixed_flops: int = 0
    fixed_activations: int = 0


@dataclass(frozen=True, kw_only=True)
class ModuleCount(OperatorCount):
    """The cost of one module, its descendants included.

    Args:
        type: Name of its class.
        params: Elements of its parameters, shared ones once.
        macs: Multiply-adds of its forward pass.
        flops: ``2 * macs`` and the elementwise operations of its forward pass.
        activations: Elements that its operators with multiply-adds write.
        fixed_macs: As in `OperatorCount`.
        fixed_flops: As in `OperatorCount`.
        fixed_activations: As in `OperatorCount`.
        backward_macs: Multiply-adds of its backward pass; None: not counted.
    """

    type: str
    params: int
    backward_macs: int | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class CountReport:
    """What `gaslayers.count` found: integers, for the inputs as given.

    Args:
        module: Name of the module's class.
        batch_size: First size of the first tensor among the inputs; None: there is none.
        params: Elements of the parameters, shared ones once.
        trainable: Those that require a gradient.
        buffers: Elements of the buffers.
        macs: Multiply-adds of the forward pass.
        flops: ``2 * macs`` and the elementwise operations of the forward pass.
        activations: Elements that the operators with multiply-adds write.
        backward_macs: Multiply-adds of the backward pass; None: not counted.
        by_module: The cost of each module by its name, descendants included; "" is the whole.
        by_operator: The forward cost of each operator.
        unsupported: Calls of each operator that the convention has no cost for.
        uncalled: Modules that the forward pass did not call.
        convention: Name and version of the convention of counting.

    Example:
        >>> import torch
        >>> from gaslayers import count
        >>> report = count(torch.nn.Conv2d(3, 8, 3), torch.zeros(2, 3, 9, 9))
        >>> report.macs, report.per_sample.macs, report.scaled(64).macs
        (21168, 10584, 677376)
        >>> print(report)
        Conv2d, batch of 2, convention gaslayers-1
        224 parameters, 224 trainable, 0 in buffers
        <BLANKLINE>
        module  type    parameters    MACs   FLOPs  activations
        ------  ------  ----------  ------  ------  -----------
        (all)   Conv2d         224  21,168  42,336          784
    """

    module: str
    batch_size: int | None
    params: int
    trainable: int
    buffers: int
    macs: int
    flops: int
    activations: int
    backward_macs: int | None
    by_module: Mapping[str, ModuleCount]
    by_operator: Mapping[str, OperatorCount]
    unsupported: Mapping[str, int]
    uncalled: tuple[str, ...]
    convention: str

    @property
    def backward_flops(self) -> int | None:
        """``2 * backward_macs``; None: not counted."""
        return None if self.backward_macs is None else 2 * self.backward_macs

    @property
    def per_sample(self) -> CountReport:
        """The report for a batch of one."""
        return self.scaled(1)

    def scaled(self, batch_size: int) -> CountReport:
        """Return the report for another batch size, taken to grow in proportion to it.

        What the inputs have no part in stays as it is: a weight computed from parameters costs
        the same whatever the batch.

        Args:
            batch_size: Samples a batch.

        Raises:
            TypeError: ``batch_size`` is no int.
            ValueError: It is below 1, the inputs had no batch, or a cost is no multiple of it.
        """
        owner = "CountReport.scaled"
        check_int(owner, "batch_size", batch_size)
        if not self.batch_size:
            rule = "belong to inputs that have a batch"
            raise bad_value(owner, "batch_size", rule, batch_size)
        ratio = (batch_size, self.batch_size)
        by_module = {name: _scaled(entry, *ratio) for name, entry in self.by_module.items()}
        whole = by_module[""]
        return replace(
            self,
            batch_size=batch_size,
            macs=whole.macs,
            flops=whole.flops,
            activations=whole.activations,
            backward_macs=whole.backward_macs,
            by_module=by_module,
            by_operator={name: _scaled(entry, *ratio) for name, entry in self.by_operator.items()},
        )

    def to_dict(self) -> dict[str, Any]:
        """The report as plain dicts, lists, strings and integers."""
        return asdict(self) | {"uncalled": list(self.uncalled)}

    def to_json(self, *, indent: int | None = 2) -> str:
        """The report as JSON."""
        return json.dumps(self.to_dict(), indent=indent)

    def to_text(self, *, depth: int | None = 2) -> str:
        """The modules down to ``depth`` levels (None: all) as a table in plain text."""
        return _tables.text(self._summary(), *self._rows(depth))

    def to_markdown(self, *, depth: int | None = 2) -> str:
        """The modules down to ``depth`` levels (None: all) as a table in Markdown."""
        return _tables.markdown(self._summary(), *self._rows(depth))

    def __str__(self) -> str:
        return self.to_text()

    def __repr__(self) -> str:
        shown = ("module", "batch_size", "params", "trainable", "macs", "flops", "backward_macs")
        written = ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)
        return f"CountReport({written}, ...)"

    def _repr_html_(self) -> str:
        return _tables.html(self._summary(), *self._rows(2))

    def _summary(self) -> list[str]:
        batch = "no batch" if self.batch_size is None else f"batch of {self.batch_size}"
        lines = [
            f"{self.module}, {batch}, convention {self.convention}",
            f"{self.params:,} parameters, {self.trainable:,} trainable, "
            f"{self.buffers:,} in buffers",
        ]
        if self.unsupported:
            calls = (f"{name} ({times})" for name, times in sorted(self.unsupported.items()))
            lines.append(f"operators without a cost: {', '.join(calls)}")
        if self.uncalled:
            lines.append(f"modules not called: {', '.join(self.uncalled)}")
        return lines

    def _rows(self, depth: int | None) -> tuple[list[str], list[list[str]]]:
        header = ["module", "type", "parameters", "MACs", "FLOPs", "activations"]
        header += [] if self.backward_macs is None else ["backward MACs"]
        rows = []
        for name, entry in self.by_module.items():
            if name and depth is not None and name.count(".") >= depth:
                continue
            costs = [entry.params, entry.macs, entry.flops, entry.activations]
            costs += [] if entry.backward_macs is None else [entry.backward_macs]
            rows.append([name or "(all)", entry.type, *(f"{cost:,}" for cost in costs)])
        return header, rows


def _rescale(cost: int, fixed: int, batch_size: int, counted: int) -> int:
    per_sample, rest = divmod(cost - fixed, counted)
    if rest:
        remedy = f"The cost {cost} is no multiple of that batch: count again at the new one."
        rule = f"be the counted one, {counted}"
        raise bad_value("CountReport.scaled", "batch_size", rule, batch_size, remedy)
    return fixed + batch_size * per_sample


def _scaled(entry: _Count, batch_size: int, counted: int) -> _Count:
    costs = {
        name: _rescale(getattr(entry, name), getattr(entry, f"fixed_{name}"), batch_size, counted)
        for name in ("macs", "flops", "activations")
    }
    if isinstance(entry, ModuleCount) and entry.backward_macs is not None:
        costs["backward_macs"] = _rescale(entry.backward_macs, 0, batch_size, counted)
    return replace(entry, **costs)
