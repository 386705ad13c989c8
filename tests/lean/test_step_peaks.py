"""The peak of a step, by a watcher of storages: no map lives longer than it is read."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from benchmarks.live_bytes import LiveBytes
from gaslayers import DenseBlock, DepthwiseConvNormAct
from gaslayers.lean.native import availability as native
from gaslayers.models.norms import OffsetBatchNorm2d

SHAPE = (8, 16, 32, 32)


def dense() -> nn.Module:
    return DenseBlock(16, 16, num_layers=2)


def separable_of_2018() -> nn.Module:
    return DepthwiseConvNormAct(
        16,
        16,
        norm_layer=OffsetBatchNorm2d,
        activation_layer=nn.ReLU,
        inner_norm_layer=OffsetBatchNorm2d,
        inner_activation_layer=nn.ReLU,
        order="act_norm",
    )


def bare_separable() -> nn.Module:
    return DepthwiseConvNormAct(16, 16)


def as_a_sum(output: Tensor) -> Tensor:
    """Of which the gradient is one number, expanded."""
    return torch.ones((), dtype=output.dtype).expand_as(output)


def as_a_slice(output: Tensor) -> Tensor:
    """As concatenation hands it back."""
    wide = torch.ones(len(output), 2 * output.shape[1], *output.shape[2:])
    return wide[:, : output.shape[1]]


def as_a_map(output: Tensor) -> Tensor:
    return torch.ones_like(output)


def backward_peak(block: nn.Module, gradient: Callable[[Tensor], Tensor]) -> float:
    """Maps of the input's size that live at most, but for the input and the output's gradient."""
    x = torch.rand(SHAPE)
    with native.switched_off():
        block(x).sum().backward()  # the parameters' gradients are there
        known = [x, *block.parameters(), *block.buffers(), *(p.grad for p in block.parameters())]
        with LiveBytes(known) as living:
            output = block(x)
            grad = gradient(output)
            living.leave_out(grad)
            living.peak = living.now
            output.backward(grad)
    return living.peak / x.nbytes


@pytest.mark.parametrize("gradient", [as_a_sum, as_a_slice, as_a_map])
@pytest.mark.parametrize(
    ("make", "most"),
    # Maps that are read, or read again, while the norm's or the convolution's pass makes another.
    [(dense, 9), (separable_of_2018, 6), (bare_separable, 3)],
)
def test_no_map_lives_longer_than_it_is_read(make, most, gradient) -> None:
    # One map more is a sixth of the peak and more; statistics are a hundredth.
    assert backward_peak(make(), gradient) < most + 0.1
