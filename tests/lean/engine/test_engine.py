"""Whatever runs under the engine ends as without it, to the bit."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gaslayers import lean_saving
from gaslayers.lean.engine import operation, provenance
from gaslayers.lean.rules import convolution
from tests.lean.engine.networks import CHANNELS, JOINS, LAYERS, SIZE, Network, Step, networks
from tests.lean.outcomes import draws

LARGE_BYTES = [0, provenance.LARGE_BYTES]
"""All maps are large, or none."""

CHEAP_READS = st.sampled_from([0, convolution.MOST_CHEAP_READS])
"""Drawn convolutions read few channels: all of them are cheap, or none."""


@pytest.fixture(autouse=True)
def _nothing_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operation, "SMALLEST_BYTES", 64)


def run(
    make: Callable[[], Network], *, recompute: str | None, order: int, layout: torch.memory_format
) -> dict[str, Any] | str:
    """All that a step changes or gives, or the error that ends it."""
    network = make().to(memory_format=layout)
    x = torch.randn(3, CHANNELS, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    x = x.contiguous(memory_format=layout).requires_grad_()
    wanted = [x, *(p for p in network.parameters() if p.requires_grad)]
    torch.manual_seed(3)
    try:
        with lean_saving(recompute=recompute) if recompute else contextlib.nullcontext():
            made = network(x)
        found = {f"output {i}": y.detach().clone() for i, y in enumerate(made)}
        loss = sum(y.sin().sum() for y in made)
        second = order == 2
        grads = torch.autograd.grad(loss, wanted, allow_unused=True, create_graph=second)
        found |= {f"gradient {i}": g for i, g in enumerate(grads) if g is not None}
        if second:
            penalty = sum(g.square().sum() for g in grads if g is not None and g.requires_grad)
            if isinstance(penalty, Tensor):
                seconds = torch.autograd.grad(penalty, wanted, allow_unused=True)
                found |= {f"second {i}": g for i, g in enumerate(seconds) if g is not None}
    except RuntimeError as error:
        return f"{type(error).__name__}: {'inplace' in str(error)}"
    found |= dict(network.named_buffers())
    return found | {"random numbers": torch.get_rng_state()}


def assert_equal(
    make: Callable[[], Network],
    *,
    order: int,
    layout: torch.memory_format,
    recompute: str = "cheap",
    cheap_reads: int = convolution.MOST_CHEAP_READS,
    large_bytes: int = provenance.LARGE_BYTES,
) -> None:
    expected = run(make, recompute=None, order=order, layout=layout)
    with (
        mock.patch.object(convolution, "MOST_CHEAP_READS", cheap_reads),
        mock.patch.object(provenance, "LARGE_BYTES", large_bytes),
    ):
        found = run(make, recompute=recompute, order=order, layout=layout)
    if isinstance(expected, str) or isinstance(found, str):
        assert found == expected
        return
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0, equal_nan=True, msg=name)
        assert found[name].stride() == value.stride(), name


@draws(150)
@given(
    make=networks(),
    order=st.sampled_from([1, 1, 2]),
    layout=st.sampled_from([torch.contiguous_format, torch.channels_last]),
    recompute=st.sampled_from(["cheap", "convolutions"]),
    cheap_reads=CHEAP_READS,
    large_bytes=st.sampled_from(LARGE_BYTES),
)
def test_a_drawn_network_ends_as_without_the_engine(
    make: Callable[[], Network],
    order: int,
    layout: torch.memory_format,
    recompute: str,
    cheap_reads: int,
    large_bytes: int,
) -> None:
    assert_equal(
        make,
        order=order,
        layout=layout,
        recompute=recompute,
        cheap_reads=cheap_reads,
        large_bytes=large_bytes,
    )


@pytest.mark.parametrize("large_bytes", LARGE_BYTES)
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("name", [*LAYERS, *JOINS])
def test_each_layer_ends_as_without_the_engine(name: str, order: int, large_bytes: int) -> None:
    reads = (0,) if name in LAYERS else (0, 1)
    steps = (Step("batch norm", (0,)), Step(name, reads), Step("relu", (0,)), Step("conv", (0,)))

    def make() -> Network:
        torch.manual_seed(1)
        return Network(steps, 1)

    assert_equal(make, order=order, layout=torch.contiguous_format, large_bytes=large_bytes)
