"""Everything that a network costs, as one row of a table."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from gaslayers._checks import bad_type, check_int
from gaslayers.accounting import _tables
from gaslayers.accounting._rehearsal import OptimizerFactory
from gaslayers.accounting._sandbox import has_plain_twin, make_call, plain_twin
from gaslayers.accounting.batch_size import max_batch_size
from gaslayers.accounting.counting import count
from gaslayers.accounting.peak import check_callable, peak_memory
from gaslayers.accounting.saving import saved_bytes

_OWNER = "cost_of"


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one network costs with inputs of one shape; bytes and counts are exact.

    The fields that end in ``_plain`` are those of the plain twin, whose lean paths are off; None
    where the network has none.

    Args:
        name: What the network is called.
        input_shape: Shape of the input, batch first; of several inputs, a tuple of their shapes.
        params: Parameters, trainable or not.
        macs: Multiply-adds of a forward pass of the whole batch.
        flops: Floating-point operations of it, by the convention of `count`.
        saved_bytes: Kept for the backward pass.
        peak_bytes: Tensor peak of a training step in the steady state.
        budget_bytes: What the largest batch was asked for, if it was.
        max_batch_size: The largest batch within the budget.
    """

    name: str
    input_shape: tuple[int, ...] | tuple[tuple[int, ...], ...]
    params: int
    macs: int
    flops: int
    saved_bytes: int
    saved_bytes_plain: int | None
    peak_bytes: int
    peak_bytes_plain: int | None
    budget_bytes: int | None = None
    max_batch_size: int | None = None
    max_batch_size_plain: int | None = None


def cost_of(
    name: str,
    module: nn.Module,
    inputs: Any,
    *,
    kwargs: Mapping[str, Any] | None = None,
    loss: Callable[[Any], Tensor] | None = None,
    optimizer: OptimizerFactory | None = None,
    budget_bytes: int | None = None,
) -> Cost:
    """Count a network, lean as it is and plain, without training it.

    Args:
        name: What to call it.
        module: The network.
        inputs: As for `gaslayers.count`, batch first.
        kwargs: Keyword arguments of the forward pass.
        loss: As for `gaslayers.peak_memory`.
        optimizer: As for `gaslayers.peak_memory`.
        budget_bytes: Find the largest batch whose step fits these bytes, too.

    Raises:
        TypeError: As for `gaslayers.count` and `gaslayers.peak_memory`.
        ValueError: As for them.

    Example:
        >>> import torch
        >>> from gaslayers import DownBlock
        >>> cost = cost_of("stage", DownBlock(1, 8), torch.zeros(2, 1, 28, 28))
        >>> cost.saved_bytes < cost.saved_bytes_plain
        True
    """
    check_callable(_OWNER, "loss", loss)
    check_callable(_OWNER, "optimizer", optimizer)
    if budget_bytes is not None:
        check_int(_OWNER, "budget_bytes", budget_bytes)
    call = make_call(_OWNER, module, inputs, kwargs)
    if not call.inputs():
        raise bad_type(_OWNER, "inputs", "hold a tensor", inputs)
    twin = plain_twin(_OWNER, call).module if has_plain_twin(module) else None

    def kept(network: nn.Module) -> int:
        return saved_bytes(network, inputs, kwargs=kwargs)

    def step_peak(network: nn.Module) -> int:
        return peak_memory(network, inputs, kwargs=kwargs, loss=loss, optimizer=optimizer).peak

    def largest(network: nn.Module) -> int | None:
        if budget_bytes is None:
            return None
        return max_batch_size(
            network,
            inputs,
            kwargs=kwargs,
            budget_bytes=budget_bytes,
            loss=loss,
            optimizer=optimizer,
        )

    shapes = tuple(tuple(tensor.shape) for tensor in call.inputs())
    counted = count(module, inputs, kwargs=kwargs)
    return Cost(
        name=name,
        input_shape=shapes[0] if len(shapes) == 1 else shapes,
        params=counted.params,
        macs=counted.macs,
        flops=counted.flops,
        saved_bytes=kept(module),
        saved_bytes_plain=None if twin is None else kept(twin),
        peak_bytes=step_peak(module),
        peak_bytes_plain=None if twin is None else step_peak(twin),
        budget_bytes=budget_bytes,
        max_batch_size=largest(module),
        max_batch_size_plain=None if twin is None else largest(twin),
    )


class CostTable:
    """Costs of several networks, one below the other.

    Args:
        costs: The rows.
    """

    def __init__(self, costs: Iterable[Cost]) -> None:
        self.costs = tuple(costs)

    def to_json(self, *, indent: int | None = 2) -> str:
        """All fields of every row, as JSON."""
        return json.dumps([asdict(cost) for cost in self.costs], indent=indent)

    def to_markdown(self) -> str:
        """The table in Markdown."""
        return _tables.markdown(_SUMMARY, *self._rows())

    def __str__(self) -> str:
        return _tables.text(_SUMMARY, *self._rows())

    def _repr_html_(self) -> str:
        return _tables.html(_SUMMARY, *self._rows())

    def _rows(self) -> tuple[Sequence[str], list[list[str]]]:
        columns = dict(_COLUMNS)
        if any(cost.budget_bytes is not None for cost in self.costs):
            columns |= _BUDGET_COLUMNS
        rows = [[show(cost) for show in columns.values()] for cost in self.costs]
        return list(columns), rows


def _show_shape(sizes: tuple[int | tuple[int, ...], ...]) -> str:
    """``2 x 3`` of one shape, ``2 x 3, 2`` of several."""
    if any(isinstance(size, tuple) for size in sizes):
        return ", ".join(_show_shape(size) for size in sizes if isinstance(size, tuple))
    return " x ".join(map(str, sizes))


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


_SUMMARY = [
    "MACs of a forward pass; bytes kept for the backward pass; bytes of tensors at the peak of a "
    "training step; plain: with the lean paths off."
]
_COLUMNS: dict[str, Callable[[Cost], str]] = {
    "network": lambda cost: cost.name,
    "input": lambda cost: _show_shape(cost.input_shape),
    "parameters": lambda cost: _number(cost.params),
    "MACs": lambda cost: _number(cost.macs),
    "kept": lambda cost: _number(cost.saved_bytes),
    "kept, plain": lambda cost: _number(cost.saved_bytes_plain),
    "peak": lambda cost: _number(cost.peak_bytes),
    "peak, plain": lambda cost: _number(cost.peak_bytes_plain),
}
_BUDGET_COLUMNS: dict[str, Callable[[Cost], str]] = {
    "budget": lambda cost: _number(cost.budget_bytes),
    "largest batch": lambda cost: _number(cost.max_batch_size),
    "largest batch, plain": lambda cost: _number(cost.max_batch_size_plain),
}
