"""What one operator of a trace costs, read off its shapes; handles for fvcore's engine.

A handle takes the input and output values of a graph node and returns a counter whose keys are
``(operator, quantity)``, so that one trace yields MACs, elementwise FLOPs and activations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import prod
from typing import Any, TypeAlias

from gaslayers.accounting._convention import FREE, PER_INPUT, PER_OUTPUT
from gaslayers.accounting._einsum import einsum_macs
from gaslayers.accounting._recurrence import FLOPS, Cost, cell_cost, layer_cost

MACS, ELEMENTWISE, ACTIVATIONS = "macs", "elementwise", "activations"

Values: TypeAlias = Sequence[Any]  # of torch._C.Value, which knows its type and its shape
Handle: TypeAlias = Callable[[Values, Values], "Counter[tuple[str, str]]"]
ForeignHandle: TypeAlias = Callable[[Values, Values], Any]

_FLOATS = {"Half", "BFloat16", "Float", "Double", "ComplexHalf", "ComplexFloat", "ComplexDouble"}
_FVCORE_PRODUCTS = {"addmm": "addmm", "bmm": "bmm", "_convolution": "conv", "linear": "linear"}
_OWN_PRODUCTS = {"mm": 0, "mv": 0, "dot": 0, "vdot": 0, "baddbmm": 1, "addmv": 1}


def _shape(value: Any) -> list[int]:
    return list(value.type().sizes())


def _is_float(value: Any) -> bool:
    return value.isCompleteTensor() and value.type().scalarType() in _FLOATS


def _is_complex(value: Any) -> bool:
    return value.isCompleteTensor() and value.type().scalarType().startswith("Complex")


def _product(operator: str, macs: int, outputs: Values) -> Counter[tuple[str, str]]:
    """The count of an operator that is made of multiply-adds; a complex one is four real ones."""
    written = prod(_shape(outputs[0]))
    real = 4 * macs if _is_complex(outputs[0]) else macs
    return Counter({(operator, MACS): real, (operator, ACTIVATIONS): written})


def _foreign_product(operator: str, handle: ForeignHandle) -> Handle:
    """The multiply-adds that a handle of fvcore's own finds."""

    def count(inputs: Values, outputs: Values) -> Counter[tuple[str, str]]:
        found = handle(inputs, outputs)
        macs = sum(found.values()) if isinstance(found, Mapping) else found
        return _product(operator, int(macs), outputs)

    return count


def _foreign_elementwise(operator: str, handle: ForeignHandle) -> Handle:
    """The FLOPs that a handle of fvcore's own finds."""
    return lambda inputs, outputs: Counter({(operator, ELEMENTWISE): int(handle(inputs, outputs))})


def _convolution_mode(inputs: Values, outputs: Values) -> Counter[tuple[str, str]]:
    """The convolution with padding "same" or "valid"."""
    return _product("conv", prod(_shape(outputs[0])) * prod(_shape(inputs[1])[1:]), outputs)


def _matmul(inputs: Values, outputs: Values) -> Counter[tuple[str, str]]:
    """The product of any ranks, batches broadcast."""
    return _product("matmul", prod(_shape(outputs[0])) * _shape(inputs[0])[-1], outputs)


def _inner(inputs: Values, outputs: Values) -> Counter[tuple[str, str]]:
    """Sums over the last axis of both; with a scalar it is a product of elements."""
    left, right = _shape(inputs[0]), _shape(inputs[1])
    if left and right:
        return _product("inner", prod(_shape(outputs[0])) * left[-1], outputs)
    return Counter({("inner", ELEMENTWISE): prod(_shape(outputs[0]))})


def _tensordot(inputs: Values, outputs: Values) -> Counter[tuple[str, str]]:
    """One product with the axes that are summed in a row; one of size 1 is summed before."""
    left, right = _shape(inputs[0]), _shape(inputs[1])
    axes = ([axis.toIValue() for axis in value.node().inputs()] for value in inputs[2:4])
    pairs = zip(*axes, strict=True)
    summed = prod(left[i] if left[i] == right[j] else 1 for i, j in pairs)
    return _product("tensordot", prod(_shape(outputs[0])) * summed, outputs)


def _recurrent(operator: str, cost: Cost) -> Handle:
    """A recurrent layer or cell."""

    def count(inputs: Values, outputs: Values) -> Counter[tuple[str, str]]:
        macs, flops = cost(inputs, outputs)
        return _product(operator, macs, outputs) + Counter({(operator, ELEMENTWISE): flops})

    return count


def _rms_norm(inputs: Values, outputs: Values) -> Counter[tuple[str, str]]:
    """Square, sum and scale, and the weight where there is one."""
    has_weight = inputs[2].isCompleteTensor()
    return Counter({("rms_norm", ELEMENTWISE): (3 + has_weight) * prod(_shape(outputs[0]))})


def _plain_product(operator: str, first: int) -> Handle:
    """A product of (batches of) matrices or vectors, found from argument number ``first`` on."""

    def count(inputs: Values, outputs: Values) -> Counter[tuple[str, str]]:
        left, right = _shape(inputs[first]), _shape(inputs[first + 1])
        # A matrix times a matrix has as many columns as the right one, else it has one.
        columns = right[-1] if len(right) == len(left) > 1 else 1
        return _product(operator, prod(left) * columns, outputs)

    return count


def _attention(inputs: Values, outputs: Values) -> Counter[tuple[str, str]]:
    """Scores of all pairs of query and key, softmax, mean of the values."""
    query, value = _shape(inputs[0]), _shape(inputs[2])
    scores = prod(_shape(outputs[0])[:-1]) * value[-2]
    operator = "scaled_dot_product_attention"
    counted = _product(operator, scores * (query[-1] + value[-1]), outputs)
    counted[operator, ELEMENTWISE] = (1 + PER_OUTPUT["softmax"]) * scores  # and their scale
    return counted


def _einsum(inputs: Values, outputs: Values) -> Counter[tuple[str, str]]:
    shapes = [_shape(value) for value in inputs[1].node().inputs()]
    path = [item.toIValue() for item in inputs[2].node().inputs()] if len(inputs) > 2 else []
    macs = einsum_macs(inputs[0].toIValue(), shapes, path)
    return _product("einsum", macs, outputs)


def _per_element(operator: str, cost: int, *, of_input: bool) -> Handle:
    """FLOPs in proportion to the elements of the first input or output, if these are floats."""

    def count(inputs: Values, outputs: Values) -> Counter[tuple[str, str]]:
        value = (inputs if of_input else outputs)[0]
        elements = prod(_shape(value)) if _is_float(value) else 0
        return Counter({(operator, ELEMENTWISE): cost * elements})

    return count


def _dropout(inputs: Values, outputs: Values) -> Counter[tuple[str, str]]:
    active = bool(inputs[2].toIValue())
    return Counter({("dropout", ELEMENTWISE): prod(_shape(outputs[0])) if active else 0})


def _with_twins(handles: Iterable[tuple[str, Handle]]) -> Iterator[tuple[str, Handle]]:
    """Each handle under its operator's name and under that of the in-place twin."""
    for operator, handle in handles:
        yield f"aten::{operator}", handle
        yield f"aten::{operator}_", handle


def all_handles(foreign: Mapping[str, ForeignHandle]) -> dict[str, Handle | None]:
    """Every handle by operator; None: an operator that costs nothing.

    Args:
        foreign: fvcore's own handles; those of ours replace them where they fall short.
    """
    table: dict[str, Handle | None] = {}
    for name, handle in foreign.items():
        operator = name.removeprefix("aten::")
        product = _FVCORE_PRODUCTS.get(operator)
        table[name] = (
            _foreign_elementwise(operator, handle)
            if product is None
            else _foreign_product(product, handle)
        )
    table.update(dict.fromkeys((f"aten::{operator}" for operator in FREE), None))
    for costs, of_input in ((PER_OUTPUT, False), (PER_INPUT, True)):
        own = ((op, _per_element(op, cost, of_input=of_input)) for op, cost in costs.items())
        table.update(_with_twins(own))
    table.update(_with_twins((f"{kind}dropout", _dropout) for kind in ("", "feature_", "alpha_")))
    for operator, first in _OWN_PRODUCTS.items():
        table[f"aten::{operator}"] = _plain_product(operator, first)
    table["aten::_convolution_mode"] = _convolution_mode
    for kind in FLOPS:
        table[f"aten::{kind}"] = _recurrent(kind, layer_cost(kind))
        table[f"aten::{kind}_cell"] = _recurrent(f"{kind}_cell", cell_cost(kind))
    table["aten::einsum"] = _einsum
    table["aten::inner"] = _inner
    table["aten::matmul"] = _matmul
    table["aten::rms_norm"] = _rms_norm
    table["aten::scaled_dot_product_attention"] = _attention
    table["aten::tensordot"] = _tensordot
    return table
