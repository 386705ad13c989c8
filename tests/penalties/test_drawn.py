"""Drawn networks get from a penalty the gradients of double backward."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from gaslayers.lean.engine import operation
from gaslayers.penalties import explain_penalty
from tests.lean.engine.networks import (
    CHANNELS,
    JOINS,
    LAYERS,
    SIZE,
    Drawn,
    Network,
    Step,
    networks,
)
from tests.lean.outcomes import draws
from tests.penalties.oracle import PENALTIES, compare

SMOOTH_LAYERS = frozenset({
    "elu", "elu in place", "selu", "silu", "silu in place", "gelu", "mish", "tanh",
    "tanh in place", "sigmoid", "softplus", "batch norm", "batch norm without affine",
    "frozen norm", "cumulative norm", "untracked norm", "instance norm", "affine instance norm",
    "tracked instance norm", "group norm", "layer norm", "rms norm", "local response",
    "power mean", "magnitude", "square", "root", "spread", "part in place", "attention", "sine",
    "own function",
})  # fmt: skip
"""Those that are smooth, that no rule knows, or that change a part of a map in place."""

SMOOTH_JOINS = frozenset({"product", "quotient", "larger"})

LINEAR_LAYERS = tuple(name for name in LAYERS if name not in SMOOTH_LAYERS)
LINEAR_JOINS = tuple(name for name in JOINS if name not in SMOOTH_JOINS)


@pytest.fixture(autouse=True)
def _nothing_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operation, "SMALLEST_BYTES", 64)


def last(made: list[Tensor]) -> Tensor:
    return made[-1]


def samples(dtype: torch.dtype, layout: torch.memory_format = torch.contiguous_format) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(3, CHANNELS, SIZE, SIZE, generator=generator, dtype=torch.float64)
    return x.to(dtype).contiguous(memory_format=layout)


def make_in(make: Callable[[], nn.Module], dtype: torch.dtype) -> Callable[[], nn.Module]:
    return lambda: make().to(dtype)


@draws(120)
@given(
    make=networks(LINEAR_LAYERS, LINEAR_JOINS),
    penalty=st.sampled_from(list(PENALTIES)),
    layout=st.sampled_from([torch.contiguous_format, torch.channels_last]),
)
def test_a_piecewise_linear_network_is_linearised_and_exact(
    make: Drawn, penalty: str, layout: torch.memory_format
) -> None:
    x = samples(torch.float64, layout)
    compare(make_in(make, x.dtype), x, penalty=penalty, score=last, method="linearised")


@draws(80)
@given(make=networks(), penalty=st.sampled_from(list(PENALTIES)))
def test_any_network_gets_the_gradients_of_double_backward(make: Drawn, penalty: str) -> None:
    x = samples(torch.float64)
    compare(make_in(make, x.dtype), x, penalty=penalty, score=last)


@draws(40)
@given(make=networks(LINEAR_LAYERS, LINEAR_JOINS))
def test_float32_agrees_to_rounding(make: Drawn) -> None:
    compare(make, samples(torch.float32), score=last)


@pytest.mark.parametrize("name", [*LAYERS, *JOINS])
def test_each_layer_takes_the_way_that_it_should(name: str) -> None:
    reads = (0,) if name in LAYERS else (0, 1)
    steps = (Step("conv", (0,)), Step(name, reads), Step("leaky", (0,)), Step("1x1", (0,)))

    def make() -> nn.Module:
        torch.manual_seed(1)
        return Network(steps, 1).double()

    x = samples(torch.float64)
    report = explain_penalty(make(), x)
    is_smooth = name in SMOOTH_LAYERS | SMOOTH_JOINS
    assert report.method == ("double backward" if is_smooth else "linearised"), report
    compare(make, x, method="auto" if is_smooth else "linearised", score=last)
