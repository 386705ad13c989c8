"""The strategy of arguments: they build, they vary, and the caller's strategies come first."""

from __future__ import annotations

import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st
from torch import nn

import gaslayers
from gaslayers import blocks
from gaslayers.testing import block_arguments

CLASSES = [getattr(blocks, name) for name in blocks.__all__]


@pytest.mark.parametrize("block_class", CLASSES)
@settings(max_examples=25)
@given(data=st.data())
def test_arguments_build_the_block_and_are_kept_by_it(block_class: type, data) -> None:
    arguments = data.draw(block_arguments(block_class))
    block = block_class(**arguments)
    # With an underscore in front where a layer's tensor bears the name.
    kept = {name: vars(block).get(name, vars(block).get(f"_{name}")) for name in arguments}
    padding = arguments.get("padding")
    if isinstance(padding, tuple) and len(set(padding)) == 1:  # a pair alike is kept as a number
        arguments["padding"] = padding[0]
    assert kept == arguments


@pytest.mark.parametrize("block_class", CLASSES)
@pytest.mark.parametrize("name", ["norm_layer", "activation_layer"])
def test_factories_are_drawn_as_none_as_class_and_as_partial(block_class: type, name: str) -> None:
    strategy = block_arguments(block_class)
    assert find(strategy, lambda a: a[name] is None)
    assert find(strategy, lambda a: isinstance(a[name], type))
    assert find(strategy, lambda a: hasattr(a[name], "keywords"))


@pytest.mark.parametrize(
    ("block_class", "wanted"),
    [
        (gaslayers.ConvNormAct, lambda a: a["groups"] > 1),
        (gaslayers.ConvNormAct, lambda a: a["kernel_size"] % 2 == 0 and a["dilation"] == 2),
        (gaslayers.InceptionBlock, lambda a: len(set(a["branch_channels"] or ())) > 1),
        (gaslayers.InceptionBlock, lambda a: a["bottleneck_channels"]),
        (gaslayers.InceptionBlock, lambda a: len(a["kernel_sizes"]) == 3 and a["stride"] == 2),
        (gaslayers.DepthwiseInceptionBlock, lambda a: a["width_multiplier"] == 0.5),
        (gaslayers.DenseBlock, lambda a: a["bottleneck_factor"] and a["num_layers"] == 3),
    ],
)
def test_what_is_rare_is_drawn_too(block_class: type, wanted) -> None:
    assert wanted(find(block_arguments(block_class), wanted))


@given(
    arguments=block_arguments(
        gaslayers.InceptionBlock,
        strategies={"out_channels": st.integers(2, 3), "kernel_sizes": st.just((1, 7))},
    )
)
def test_strategies_of_the_caller_come_first_and_bind_the_rest(arguments: dict) -> None:
    assert arguments["out_channels"] in (2, 3)
    assert arguments["kernel_sizes"] == (1, 7)
    assert sum(arguments["branch_channels"] or [arguments["out_channels"]]) in (2, 3)


@given(
    arguments=block_arguments(
        gaslayers.ConvNormAct, strategies={"groups": st.just(3), "in_channels": st.just(3)}
    )
)
def test_bound_argument_of_the_caller_is_not_drawn_anew(arguments: dict) -> None:
    assert arguments["groups"] == arguments["in_channels"] == 3


@given(arguments=block_arguments(gaslayers.DownBlock))
def test_unknown_argument_keeps_its_default(arguments: dict) -> None:
    assert "block" not in arguments
    assert {"in_channels", "out_channels", "pool_layer", "memory_efficient"} < arguments.keys()


def stranger(in_channels: int, *, width: int, stride: int = 1) -> nn.Module:
    return nn.Conv2d(in_channels, width, 1, stride=stride)


@given(arguments=block_arguments(stranger, strategies={"width": st.integers(1, 2)}))
def test_any_callable_is_read_by_its_signature(arguments: dict) -> None:
    assert arguments.keys() == {"in_channels", "width", "stride"}
    assert stranger(**arguments).out_channels in (1, 2)


def test_argument_without_default_needs_a_strategy() -> None:
    message = (
        r"block_arguments: `strategies` must hold a strategy for `width`, which has no default"
    )
    with pytest.raises(ValueError, match=message):
        block_arguments(stranger)


def test_strategy_for_no_argument_is_refused() -> None:
    message = r"`strategies` must name arguments among in_channels, width, stride, got 'bias'"
    with pytest.raises(ValueError, match=message):
        block_arguments(stranger, strategies={"width": st.just(1), "bias": st.just(True)})
