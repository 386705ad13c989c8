"""What a count found, as an object that prints, serialises and scales."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from gaslayers._checks import bad_value, check_int
from gaslayers.accounting import _tables


@dataclass(frozen=True)
class ModuleCount:
    """The cost of one module, its descendants included.

    Args:
        type: Name of its class.
        params: Elements of its parameters, shared ones once.
        macs: Multiply-adds of its forward pass.
        flops: ``2 * macs`` and the elementwise operations.
        activations: Elements that its operators with multiply-adds write.
        backward_macs: Multiply-adds of its backward pass; None: not counted.
    """

    type: str
    params: int
    macs: int
    flops: int
    activations: int
    backward_macs: int | None = None


@dataclass(frozen=True)
class OperatorCount:
    """The forward cost of all calls of one operator.

    Args:
        macs: Multiply-adds.
        flops: ``2 * macs`` and the elementwise operations.
        activations: Elements written, where the operator has multiply-adds.
    """

    macs: int
    flops: int
    activations: int


@dataclass(frozen=True, repr=False)
class CountReport:
    """What `count` found: integers, for the inputs as given.

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
        >>> report.macs, report.per_sample.macs
        (21168, 10584)
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
        """The same report for a batch of one."""
        return self.scaled(1)

    def scaled(self, batch_size: int) -> CountReport:
        """Return the report for another batch size; every cost is taken to grow with the batch.

        Args:
            batch_size: Samples a batch.

        Raises:
            TypeError: ``batch_size`` is no int.
            ValueError: It is below 1, the inputs had no batch, or a cost is no multiple of it, as
                that of computing a weight from parameters is not.
        """
        owner = "CountReport.scaled"
        check_int(owner, "batch_size", batch_size)
        counted = self.batch_size
        if not counted:
            raise bad_value(owner, "batch_size", "follow from the inputs to be scaled", counted)

        def scale(cost: int) -> int:
            if cost % counted:
                rule = f"be {counted}, the counted one"
                remedy = f"{cost} is no multiple of it: some cost does not grow with the batch."
                raise bad_value(owner, "batch_size", rule, batch_size, remedy)
            return cost // counted * batch_size

        return replace(
            _scale(self, scale),
            batch_size=batch_size,
            by_module={name: _scale(entry, scale) for name, entry in self.by_module.items()},
            by_operator={name: _scale(entry, scale) for name, entry in self.by_operator.items()},
        )

    def to_dict(self) -> dict[str, Any]:
        """The report as plain dicts, lists, strings and integers."""
        return asdict(self) | {"uncalled": list(self.uncalled)}

    def to_json(self, *, indent: int | None = 2) -> str:
        """The report as JSON."""
        return json.dumps(self.to_dict(), indent=indent)

    def to_text(self, *, depth: int | None = 2) -> str:
        """The report as a table of modules, down to ``depth`` levels (None: all) in plain text."""
        return _tables.text(self._summary(), *self._rows(depth))

    def to_markdown(self, *, depth: int | None = 2) -> str:
        """The report as a table of modules, down to ``depth`` levels (None: all) in Markdown."""
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
            f"{self.params:,} parameters, {self.trainable:,} trainable, {self.buffers:,} in buffers",
        ]
        if self.unsupported:
            calls = ", ".join(f"{name} ({n})" for name, n in sorted(self.unsupported.items()))
            lines.append(f"not counted: {calls}")
        if self.uncalled:
            lines.append(f"not called: {', '.join(self.uncalled)}")
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


def _scale(entry: Any, scale: Callable[[int], int]) -> Any:
    """Scale every cost of a report or an entry; None stays None."""
    costs = {"macs", "flops", "activations", "backward_macs"}
    names = [field.name for field in fields(entry) if field.name in costs]
    values = {name: getattr(entry, name) for name in names}
    return replace(entry, **{k: v if v is None else scale(v) for k, v in values.items()})
