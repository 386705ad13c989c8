"""Which maps of units in a row are kept, and which are computed again."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from gaslayers.lean.fused.chain.unit_cost import (
    UnitShape,
    input_values,
    keeps_output,
    pass_times,
    plain_values,
    recomputation_time,
    scales,
)

ALLOWANCE = 0.1
"""What a training pass through the units alone may take longer than the plain composition.

They are a part of a network, whose time grows by less.
"""


class KeptMaps(NamedTuple):
    """Which maps are kept.

    Args:
        keep: For each unit, whether its map is.
        values: Values kept for each pixel of the output, the input's own included.
        plain_values: The same of the plain composition.
        time: Time of a training pass, that of the plain composition being 1.
    """

    keep: tuple[bool, ...]
    values: float
    plain_values: float
    time: float

    @property
    def pays(self) -> bool:
        """Whether less is kept than by the plain composition, or the same in less time."""
        return (self.values, self.time) < (self.plain_values, 1.0)


def choose_kept(
    shapes: Sequence[UnitShape],
    *,
    sliced: bool = False,
    input_is_kept: bool = False,
    allowance: float = ALLOWANCE,
) -> KeptMaps | None:
    """The fewest values kept among the choices whose time stays within the allowance.

    None: no choice does. Even with every map kept, norms in front of activations run again.

    Args:
        shapes: The units in order.
        sliced: Whether the output's gradient comes as a slice of channels in channels-last memory.
        input_is_kept: Whether something else keeps the input in any case.
        allowance: Share of the plain composition's time.
    """
    plain_time, lean_time = pass_times(shapes, sliced=sliced)
    own_input = 0.0 if input_is_kept else input_values(shapes)
    choices = []
    for keep in itertools.product((True, False), repeat=len(shapes)):
        kept = sum(
            scale * shape.out_channels * is_kept
            for shape, scale, is_kept in zip(shapes, scales(shapes), keep, strict=True)
        )
        choice = KeptMaps(
            keep=keep,
            values=own_input + kept,
            plain_values=plain_values(shapes) + own_input * shapes[0].trained,
            time=(lean_time + recomputation_time(shapes, keep)) / plain_time,
        )
        if choice.time <= 1 + allowance:
            choices.append(choice)
    return min(choices, key=lambda choice: (choice.values, choice.time), default=None)


@functools.lru_cache
def choose_start(
    shapes: tuple[UnitShape, ...], *, input_is_kept: bool = False, **options: Any
) -> tuple[int, KeptMaps] | None:
    """The first unit of the best chain that ends with the last one, and what it keeps.

    The units in front of it run on their own, and keep what autograd keeps of them. None: no
    chain pays.

    Args:
        shapes: The units in order.
        input_is_kept: Whether something else keeps the input in any case.
        **options: The others of `choose_kept`.
    """
    best: tuple[float, int, KeptMaps] | None = None
    for start in range(len(shapes)):
        choice = choose_kept(
            shapes[start:],
            input_is_kept=keeps_output(shapes[start - 1]) if start else input_is_kept,
            **options,
        )
        if choice is None or not choice.pays:
            continue
        values = choice.values + _front_values(shapes, start, input_is_kept=input_is_kept)
        if best is None or values < best[0]:
            best = values, start, choice
    return None if best is None else best[1:]


def _front_values(shapes: Sequence[UnitShape], start: int, *, input_is_kept: bool) -> float:
    """Values that the units in front of a chain keep for each pixel of the output."""
    if start == 0:
        return 0.0
    values = scales(shapes)[start - 1] * plain_values(shapes[:start])
    return values + input_values(shapes) * (shapes[0].trained and not input_is_kept)
