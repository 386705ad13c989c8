"""Zeros of either sign, infinities and NaN: the same bits as the composition's."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn

from gaslayers import DownBlock
from gaslayers.testing._layouts import lay_out
from tests.lean.compositions import compose
from tests.lean.outcomes import Drawn, Results, assert_as_plain, blocks, draws, gradients
from tests.lean.subjects import SUBJECTS

INF = float("inf")
VALUES = [0.0, -0.0, 1.0, -1.0, INF, -INF, float("nan"), 2.0**-149, 2.0**127]
BITS = {torch.float32: torch.int32, torch.float64: torch.int64}
POOLS = {
    "max": nn.MaxPool2d,
    "max, ceil": partial(nn.MaxPool2d, ceil_mode=True),
    "max of 3": lambda _: nn.MaxPool2d(3, ceil_mode=True),
    "max, overlapping": partial(nn.MaxPool2d, stride=1),
    "average": nn.AvgPool2d,
    "average, ceil": partial(nn.AvgPool2d, ceil_mode=True),
}
ACTIVATIONS = {
    "relu": nn.ReLU,
    "relu in place": partial(nn.ReLU, inplace=True),
    "leaky": partial(nn.LeakyReLU, 0.2),
    "leaky of zero": partial(nn.LeakyReLU, 0.0),
    "leaky of one": partial(nn.LeakyReLU, 1.0),
    "leaky above one": partial(nn.LeakyReLU, 1.5),
    "leaky below zero": partial(nn.LeakyReLU, -0.5),
    "none": None,
}


class Handed(nn.Module):
    """A body that hands its input on."""

    def __init__(self, _in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels

    def forward(self, x: Tensor) -> Tensor:
        return x.clone()


def bits(x: Tensor) -> Tensor:
    """The numbers as integers; every NaN is the same one, which arithmetic does not promise."""
    return torch.where(x.isnan(), torch.full_like(x, torch.nan), x).contiguous().view(BITS[x.dtype])


def special(shape: tuple[int, ...], seed: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    indices = torch.randint(len(VALUES), shape, generator=generator)
    return torch.tensor(VALUES, dtype=dtype)[indices]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("pool", POOLS)
@draws(10)
@given(
    seed=st.integers(0, 2**16),
    channels=st.sampled_from([1, 3, 8]),
    height=st.integers(3, 17),
    width=st.integers(3, 17),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    layout=st.sampled_from(["contiguous", "channels_last", "crop", "channel_slice_last"]),
    grad_layout=st.sampled_from(["contiguous", "channels_last", "expanded"]),
)
def test_pooling_hands_on_the_bits_of_special_values(
    pool, activation, seed, channels, height, width, dtype, layout, grad_layout
) -> None:
    stage = DownBlock(
        channels,
        channels,
        block=Handed,
        norm_layer=None,
        activation_layer=ACTIVATIONS[activation],
        pool_layer=POOLS[pool],
    )
    composition = nn.Sequential(stage.body, stage.activation, stage.pool)
    x = lay_out(special((2, channels, height, width), seed, dtype), layout).requires_grad_()
    y, expected = stage(x), composition(x)
    assert torch.equal(bits(y.detach()), bits(expected.detach()))
    grad = lay_out(special(tuple(y.shape), seed + 1, dtype), grad_layout)
    (found,), (wanted,) = (torch.autograd.grad(z, x, grad) for z in (y, expected))
    assert torch.equal(bits(found), bits(wanted))


@draws(100)
@given(drawn=blocks(), seed=st.integers(0, 2**16), value=st.sampled_from(VALUES))
def test_one_special_value_spreads_as_in_the_composition(drawn: Drawn, seed, value) -> None:
    # Convolutions that run as one spread it as far as the largest kernel, as their blocks say.
    assume(SUBJECTS[drawn.name].exact)

    def act(module: nn.Module, owner: nn.Module) -> Results:
        x = drawn.input(seed=seed)
        with torch.no_grad():
            x[seed % 3, seed % 4, seed % 6, seed % 5] = value
        y = module(x)
        found = {"output": y.detach(), **gradients(y, x, owner), **dict(owner.named_buffers())}
        return {
            name: torch.stack([t.isnan(), t == INF, t == -INF]).float() if t.dim() else t
            for name, t in found.items()
        }

    assert_as_plain(drawn.block, act)


def test_a_composition_of_a_stage_is_made_of_its_layers() -> None:
    stage = DownBlock(2, 4)
    assert set(compose(stage).modules()) >= {stage.body.conv, stage.norm, stage.pool}
