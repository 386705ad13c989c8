"""The hypothesis strategy of the arguments that build a block."""

from __future__ import annotations

import functools
import inspect
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hypothesis import strategies as st
from torch import nn

from gaslayers._checks import bad_value

Strategy = st.SearchStrategy[Any]

_NORMS = st.sampled_from([None, nn.BatchNorm2d, functools.partial(nn.BatchNorm2d, eps=1e-3)])
_ACTIVATIONS = st.sampled_from([None, nn.ReLU, functools.partial(nn.LeakyReLU, 0.2), nn.SiLU])

# What an argument may be, by its name; a name that is not here stays at its default.
_ARGUMENTS: dict[str, Strategy] = {
    "in_channels": st.integers(1, 5),
    # At least 5: up to three branches, one of them twice as wide as another, get a channel each.
    "out_channels": st.integers(5, 9),
    "growth_rate": st.integers(1, 4),
    "num_layers": st.integers(1, 3),
    "bottleneck_factor": st.sampled_from([None, 1, 2]),
    "kernel_size": st.integers(1, 5),
    "kernel_sizes": st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple),
    "stride": st.integers(1, 2),
    "dilation": st.integers(1, 2),
    "bias": st.sampled_from([None, True, False]),
    "bottleneck": st.booleans(),
    "width_multiplier": st.sampled_from([1.0, 0.5, 2.0]),
    "compression": st.sampled_from([0.5, 1.0, 0.3]),
    "order": st.sampled_from(["norm_act", "act_norm"]),
    "norm_layer": _NORMS,
    "inner_norm_layer": _NORMS,
    "activation_layer": _ACTIVATIONS,
    "inner_activation_layer": _ACTIVATIONS,
    "pool_layer": st.sampled_from([None, nn.AvgPool2d, nn.MaxPool2d]),
    "memory_efficient": st.booleans(),
}


def _groups(arguments: Mapping[str, Any]) -> Strategy:
    common = math.gcd(arguments["in_channels"], arguments["out_channels"])
    return st.sampled_from([size for size in range(1, common + 1) if common % size == 0])


def _branch_channels(arguments: Mapping[str, Any]) -> Strategy:
    total, branches = arguments["out_channels"], len(arguments["kernel_sizes"])
    if total == 1:
        return st.none()
    cuts = st.sets(st.integers(1, total - 1), min_size=branches - 1, max_size=branches - 1)

    def widths(ends: set[int]) -> tuple[int, ...]:
        edges = [0, *sorted(ends), total]
        return tuple(end - start for start, end in itertools.pairwise(edges))

    return st.none() | cuts.map(widths)


def _bottleneck_channels(arguments: Mapping[str, Any]) -> Strategy:
    branches = len(arguments["kernel_sizes"])
    if not arguments["bottleneck"]:
        return st.none()
    return st.none() | st.tuples(*[st.integers(1, 4)] * branches)


def _padding(arguments: Mapping[str, Any]) -> Strategy:
    """From what lets a kernel fit a map of one pixel to where it would read zeros alone."""
    reach = arguments["dilation"] * (arguments["kernel_size"] - 1)
    side = st.integers(-(-reach // 2), reach)
    return st.none() | side | st.tuples(side, side)


# What an argument may be once the others are drawn: groups divide both sizes, branches sum up.
_BOUND_ARGUMENTS: dict[str, Callable[[Mapping[str, Any]], Strategy]] = {
    "groups": _groups,
    "padding": _padding,
    "branch_channels": _branch_channels,
    "bottleneck_channels": _bottleneck_channels,
}


@st.composite
def _block_arguments(
    draw: st.DrawFn, names: Sequence[str], strategies: Mapping[str, Strategy]
) -> dict[str, Any]:
    arguments = {name: draw(strategies[name]) for name in names if name in strategies}
    for name in names:
        if name in _BOUND_ARGUMENTS and name not in strategies:
            arguments[name] = draw(_BOUND_ARGUMENTS[name](arguments))
    return arguments


def block_arguments(
    block: Callable[..., nn.Module],
    *,
    strategies: Mapping[str, Strategy] | None = None,
) -> st.SearchStrategy[dict[str, Any]]:
    """Arguments that build a block, drawn by the names in its signature.

    Sizes up to 9, kernels of 1 to 5 both even and odd, stride and dilation of 1 or 2, norms,
    activations and pools including None, uneven splits among branches. What is bound is drawn
    to fit: groups divide the channels, branch channels sum to ``out_channels``.

    Args:
        block: The block's class, or any callable that builds one from such arguments.
        strategies: Strategies by argument name, for arguments that this one does not know or
            in place of what it would draw.

    Returns:
        A strategy of dictionaries: ``block(**arguments)``.

    Raises:
        ValueError: A strategy for an argument that the block does not take, an argument without
            default that is not known.

    Note:
        An argument that is not known keeps its default, so ``layer``, ``block`` and
        ``conv_layer`` do unless ``strategies`` names them. A block whose pool is drawn takes
        maps of ``min_side=2``.

    Example:
        >>> from gaslayers import DenseBlock
        >>> from hypothesis import given, settings
        >>> @settings(max_examples=5, database=None)
        ... @given(block_arguments(DenseBlock))
        ... def widens(arguments):
        ...     assert DenseBlock(**arguments).out_channels > arguments["in_channels"]
        >>> widens()
    """
    owner = "block_arguments"
    parameters = inspect.signature(block).parameters
    given = dict(strategies or {})
    for name in given:
        if name not in parameters:
            rule = f"name arguments among {', '.join(parameters)}"
            raise bad_value(owner, "strategies", rule, name)
    known = {**_ARGUMENTS, **given}
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in known:
            rule = f"hold a strategy for `{name}`, which has no default"
            raise bad_value(owner, "strategies", rule, sorted(given))
    return _block_arguments(tuple(parameters), known)
