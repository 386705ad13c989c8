"""What recurrent layers cost, read off a trace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, TypeAlias

# A layer's elements of the hidden state, each step: sums of both products, activations, and what
# mixes the gates with the state.
FLOPS = {
    "lstm": 4 + 5 + 4,
    "gru": 2 + 3 + 5,
    "rnn_tanh": 1 + 1,
    "rnn_relu": 1 + 1,
}
"""Elementwise FLOPs per element of the hidden state, by kind of layer."""

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}

Cost: TypeAlias = Callable[[Sequence[Any], Sequence[Any]], tuple[int, int]]


def _shape(value: Any) -> list[int]:
    return list(value.type().sizes())


def _is_list(value: Any) -> bool:
    return value.node().kind() == "prim::ListConstruct"


def layer_cost(kind: str) -> Cost:
    """Multiply-adds and elementwise FLOPs of all steps, layers and directions.

    Args:
        kind: A key of `FLOPS`.
    """

    def cost(inputs: Sequence[Any], outputs: Sequence[Any]) -> tuple[int, int]:
        lists = [i for i, value in enumerate(inputs) if _is_list(value)]
        weights = [_shape(weight) for weight in inputs[lists[-1]].node().inputs()]
        matrices = [shape for shape in weights if len(shape) == 2]
        steps = prod(_shape(inputs[0])[:-1])  # of all samples
        options = [value.toIValue() for value in inputs[lists[-1] + 1 :]]
        layers, dropout, is_training, is_bidirectional = options[1:5]
        directions = 1 + is_bidirectional
        hidden = matrices[0][0] // GATES[kind]
        flops = FLOPS[kind] * hidden * layers
        if is_training and dropout:  # between layers; a projection is what goes on
            flops += (_shape(outputs[0])[-1] // directions) * (layers - 1)
        return steps * sum(map(prod, matrices)), flops * steps * directions

    return cost


def cell_cost(kind: str) -> Cost:
    """The same for one step of a cell.

    Args:
        kind: A key of `FLOPS`.
    """

    def cost(inputs: Sequence[Any], _outputs: Sequence[Any]) -> tuple[int, int]:
        from_input, from_state = _shape(inputs[2]), _shape(inputs[3])
        samples = prod(_shape(inputs[0])[:-1])
        flops = FLOPS[kind] * from_state[-1]
        return samples * (prod(from_input) + prod(from_state)), samples * flops

    return cost
