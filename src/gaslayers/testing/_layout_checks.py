"""The check that a block computes the same however its numbers lie in memory."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gaslayers.testing._common import require_same_pass, training_pass
from gaslayers.testing._layouts import MAP_LAYOUTS, WEIGHT_LAYOUTS, lay_out, lay_out_weights

_ROUNDS = 1
"""How often each layout of the input is met, each time with others of the rest."""


class Layouts(NamedTuple):
    """Where the weights, the input and the output's gradient lie."""

    weights: str
    input: str
    grad: str

    def __str__(self) -> str:
        return f"weights {self.weights}, input {self.input}, gradient {self.grad}"


_TIED = ("expanded", "expanded_pixels", "overlapping")
"""Inputs with equal neighbours, of which rounding alone says what a pooling takes.

A norm in training enlarges that rounding, where all values of a channel are equal.
"""


def combinations() -> Iterator[Layouts]:
    """A share of all combinations, in which each layout meets several others.

    First those that people have most: weights in one format and input in the other.
    """
    usual = ("contiguous", "channels_last")
    first = [*itertools.starmap(Layouts, itertools.product(usual, repeat=3))]
    yield from first
    maps, weights = list(MAP_LAYOUTS), list(WEIGHT_LAYOUTS)
    for i in range(_ROUNDS * len(maps)):
        given = maps[i % len(maps)]
        given = "crop" if given in _TIED else given
        # Steps without a common divisor with the number of names, so that all pairs come by.
        layouts = Layouts(weights[3 * i % len(weights)], given, maps[5 * i % len(maps)])
        if layouts not in first:
            yield layouts


def _contiguous(x: Tensor) -> Tensor:
    return x.clone(memory_format=torch.contiguous_format)


def _laid_out(block: nn.Module, layouts: Layouts) -> nn.Module:
    duplicate = copy.deepcopy(block)
    lay_out_weights(duplicate, layouts.weights)
    return duplicate


def _is_lean(block: nn.Module) -> bool:
    return any(getattr(part, "memory_efficient", False) for part in block.modules())


def _switch_to_plain(block: nn.Module) -> None:
    for part in block.modules():
        if hasattr(part, "memory_efficient"):
            part.memory_efficient = False  # type: ignore[assignment]  # a block has it


def check_layouts(block: nn.Module, x: Tensor) -> None:
    """No layout of weights, input or gradient changes an output, a gradient or a statistic.

    The block is compared with itself in contiguous memory, and, where it has
    ``memory_efficient``, also with itself without it.
    """
    plain = copy.deepcopy(block)
    _switch_to_plain(plain)
    for index, layouts in enumerate(combinations()):
        training = index % 3 != 0
        given = lay_out(x, layouts.input)

        def lay_out_grad(grad: Tensor, layout: str = layouts.grad) -> Tensor:
            return lay_out(grad, layout)

        def in_order(grad: Tensor, layout: str = layouts.grad) -> Tensor:
            # Through the layout: expanded ones repeat numbers.
            return _contiguous(lay_out(grad, layout))

        options: Any = {"training": training, "lay_out_grad": lay_out_grad}
        actual = training_pass(_laid_out(block, layouts), given, **options)
        condition = f"with {layouts}, training={training}"
        usual = copy.deepcopy(block)
        expected = training_pass(
            usual, _contiguous(given), training=training, lay_out_grad=in_order
        )
        require_same_pass(actual, expected, condition)
        if _is_lean(block):
            expected = training_pass(_laid_out(plain, layouts), given, **options)
            require_same_pass(actual, expected, f"{condition} and memory_efficient=False")
