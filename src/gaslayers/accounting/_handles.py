"""What one operator of a trace costs, read off its shapes; handles for fvcore's engine.

A handle takes the input and output values of a graph node and returns a counter whose keys are
``(operator, quantity)``, so that one trace yields MACs, elementwise FLOPs and activations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod
from typing import Any, TypeAlias

from gaslayers.accounting._convention import FREE, PER_INPUT, PER_OUTPUT
from gaslayers.accounting._einsum import einsum_macs

MACS, ELEMENTWISE, ACTIVATIONS = "macs", "elementwise", "activations"

Key: TypeAlias = tuple[str, str]
Values: TypeAlias = Sequence[Any]  # torch._C.Value, which carries a shape and a type
Handle: TypeAlias = Callable[[Values, Values], "Counter[Key]"]

_FLOATS = {"Half", "BFloat16", "Float", "Double", "ComplexHalf", "ComplexFloat", "ComplexDouble"}


def _shape(value: Any) -> list[int]:
    return list(value.type().sizes())


def _is_float(value: Any) -> bool:
    return value.isCompleteTensor() and value.type().scalarType() in _FLOATS


def _product(operator: str, macs: int, outputs: Values) -> Counter[Key]:
    """The count of an operator made of multiply-adds."""
    written = prod(_shape(outputs[0]))
    return Counter({(operator, MACS): macs, (operator, ACTIVATIONS): written})


def multiply_adds(operator: str, handle: Callable[[Values, Values], Any]) -> Handle:
    """Give the operator the multiply-adds that a handle of fvcore's own finds."""

    def count(inputs: Values, outputs: Values) -> Counter[Key]:
        found = handle(inputs, outputs)
        macs = sum(found.values()) if isinstance(found, Mapping) else found
        return _product(operator, int(macs), outputs)

    return count


def elementwise(operator: str, handle: Callable[[Values, Values], Any]) -> Handle:
    """Give the operator the FLOPs that a handle of fvcore's own finds."""
    return lambda inputs, outputs: Counter({(operator, ELEMENTWISE): int(handle(inputs, outputs))})


def _same_convolution(inputs: Values, outputs: Values) -> Counter[Key]:
    """`aten::_convolution_mode`, the convolution with padding "same" or "valid"."""
    return _product("conv", prod(_shape(outputs[0])) * prod(_shape(inputs[1])[1:]), outputs)


def _matmul(inputs: Values, outputs: Values) -> Counter[Key]:
    """`aten::matmul` of any ranks, batches broadcast."""
    return _product("matmul", prod(_shape(outputs[0])) * _shape(inputs[0])[-1], outputs)


def _batched(operator: str, first: int) -> Handle:
    """A product of (batches of) matrices or vectors, found from argument number ``first`` on."""

    def count(inputs: Values, outputs: Values) -> Counter[Key]:
        left, right = _shape(inputs[first]), _shape(inputs[first + 1])
        columns = right[-1] if len(right) > 1 else 1
        return _product(operator, prod(left) * columns, outputs)

    return count


def _attention(inputs: Values, outputs: Values) -> Counter[Key]:
    """`aten::scaled_dot_product_attention`: the scores, then the mean of the values."""
    query, value = _shape(inputs[0]), _shape(inputs[2])
    written = _shape(outputs[0])
    scores = prod(written[:-1]) * value[-2]
    operator = "scaled_dot_product_attention"
    counted = _product(operator, scores * (query[-1] + value[-1]), outputs)
    counted[operator, ELEMENTWISE] = 4 * scores  # scale and softmax
    return counted


def _einsum(inputs: Values, outputs: Values) -> Counter[Key]:
    operands = [_shape(value) for value in inputs[1].node().inputs()]
    path = None if len(inputs) < 3 else inputs[2].toIValue()
    if path is None and len(inputs) > 2 and inputs[2].node().kind() == "prim::ListConstruct":
        path = [item.toIValue() for item in inputs[2].node().inputs()]
    return _product("einsum", einsum_macs(inputs[0].toIValue(), operands, path), outputs)


def _per_output(operator: str, cost: int) -> Handle:
    def count(inputs: Values, outputs: Values) -> Counter[Key]:
        if not _is_float(outputs[0]):
            return Counter()
        return Counter({(operator, ELEMENTWISE): cost * prod(_shape(outputs[0]))})

    return count


def _per_input(operator: str, cost: int) -> Handle:
    def count(inputs: Values, outputs: Values) -> Counter[Key]:
        if not _is_float(inputs[0]):
            return Counter()
        return Counter({(operator, ELEMENTWISE): cost * prod(_shape(inputs[0]))})

    return count


def _dropout(inputs: Values, outputs: Values) -> Counter[Key]:
    active = bool(inputs[2].toIValue())
    return Counter({("dropout", ELEMENTWISE): prod(_shape(outputs[0])) if active else 0})


def _named(handles: Mapping[str, Handle]) -> Iterable[tuple[str, Handle]]:
    """Each handle under the operator's name and under that of its in-place twin."""
    for operator, handle in handles.items():
        yield f"aten::{operator}", handle
        yield f"aten::{operator}_", handle


def own_handles() -> dict[str, Handle | None]:
    """Handles for what fvcore lacks or counts wrongly; None: an operator that costs nothing."""
    table: dict[str, Handle | None] = dict.fromkeys((f"aten::{name}" for name in FREE), None)
    table.update(_named({op: _per_output(op, cost) for op, cost in PER_OUTPUT.items()}))
    table.update(_named({op: _per_input(op, cost) for op, cost in PER_INPUT.items()}))
    table.update(_named(dict.fromkeys(("dropout", "feature_dropout", "alpha_dropout"), _dropout)))
    table["aten::_convolution_mode"] = _same_convolution
    table["aten::einsum"] = _einsum
    table["aten::matmul"] = _matmul
    table["aten::scaled_dot_product_attention"] = _attention
    for operator, first in (
        ("mm", 0), ("mv", 0), ("dot", 0), ("vdot", 0), ("inner", 0),
        ("baddbmm", 1), ("addbmm", 1), ("addmv", 1),
    ):  # fmt: skip
        table[f"aten::{operator}"] = _batched(operator, first)
    return table
