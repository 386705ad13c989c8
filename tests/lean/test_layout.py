"""Stand-ins and padded inputs have the memory format of what they stand for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from gaslayers.lean.convolution import ConvolutionGeometry
from gaslayers.lean.fused.frozen.convolutions import convolve_frozen
from gaslayers.lean.fused.inception import kernels as inception
from gaslayers.lean.layout import dense_strides, layout_of


class Inputs(TorchDispatchMode):
    """The strides of what convolutions' backward passes take for their input."""

    def __init__(self) -> None:
        super().__init__()
        self.strides: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution_backward.default:
            self.strides.append(args[1].stride())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_frozen_convolution_names_the_strides_of_its_input(channels: int, layout) -> None:
    x = torch.randn(2, channels, 5, 6).to(memory_format=layout).requires_grad_()
    conv = nn.Conv2d(channels, 4, 1).requires_grad_(False)
    y = convolve_frozen(ConvolutionGeometry.of(conv), x, conv.weight, conv.bias)
    with Inputs() as inputs:
        y.sum().backward()
    assert inputs.strides == [x.stride()]


def test_strides_of_a_slice_are_those_of_its_copy() -> None:
    x = torch.randn(2, 5, 4, 6).to(memory_format=torch.channels_last)[:, :3]
    assert dense_strides(x) == x.contiguous(memory_format=torch.channels_last).stride()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_channel_of_ones_keeps_the_memory_format(layout) -> None:
    x = torch.randn(2, 3, 5, 6).to(memory_format=layout)
    border = torch.ones(4, 1, 3, 3)
    padded, kernel = inception._with_ones(x, inception.Kernel(torch.ones(4, 3, 3, 3), None), border)
    assert padded.is_contiguous(memory_format=layout)
    assert torch.equal(padded[:, :3], x)
    assert torch.equal(padded[:, 3], torch.ones(2, 5, 6))
    assert kernel.weight.shape == (4, 4, 3, 3)


LAST = torch.channels_last


@pytest.mark.parametrize(
    "x",
    [
        torch.zeros(2, 3, 4, 5),
        torch.zeros(2, 3, 4, 5).contiguous(memory_format=LAST),
        torch.zeros(2, 1, 4, 5),
        torch.zeros(2, 4, 5, 1).permute(0, 3, 1, 2),
        torch.zeros(2, 3, 1, 1),
        torch.zeros(2, 1, 1, 3).permute(0, 3, 1, 2),
        torch.zeros(2, 1, 1, 1),
        torch.zeros(2, 1, 4, 5).expand(2, 3, 4, 5),
        torch.zeros(1, 1, 1, 5).expand(2, 3, 4, 5),
        torch.zeros(2, 9, 9, 3).permute(0, 3, 1, 2)[:, :, 2:6, 1:6],
        torch.zeros(2, 4, 5, 7).permute(0, 3, 1, 2)[:, 1:4],
        torch.zeros(2, 7, 4, 5)[:, ::2],
        torch.zeros(2, 5, 4, 3).permute(0, 3, 2, 1),
    ],
)
def test_memory_format_is_the_one_in_which_pytorch_pools(x: torch.Tensor) -> None:
    """Strides tell both formats apart where a single channel has the same memory in both."""
    made = torch.nn.functional.max_pool2d(x, 1)
    assert torch.empty(x.shape, memory_format=layout_of(x)).stride() == made.stride()
