"""Zeros around a unit's input: what others write, and no copy for zeros that are not read."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gaslayers import (
    ConvNormAct,
    DepthwiseConvNormAct,
    DepthwiseInceptionBlock,
    DownBlock,
    InceptionBlock,
    TransitionBlock,
    saved_bytes,
)
from tests.blocks.catalogue import TOLERANCE
from tests.lean.twins import module_bytes, twin_of

SIZES = [(8, 8), (7, 8), (8, 7), (7, 7), (9, 12), (1, 1), (2, 1)]


def layers(*geometry, norm: bool = False) -> nn.Sequential:
    conv = nn.Conv2d(3, 64, *geometry, bias=not norm)
    return nn.Sequential(conv, *[nn.BatchNorm2d(64)] * norm, nn.LeakyReLU(0.2))


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize(("stride", "options"), [(2, {}), (2, {"padding": 1}), (1, {"padding": 1})])
def test_unit_keeps_no_more_than_the_layers_that_others_write(stride, options, norm) -> None:
    """DCGAN's convolution, and PatchGAN's: a 4x4 kernel, one zero at each end."""
    norm_layer = nn.BatchNorm2d if norm else None
    unit = ConvNormAct(
        3,
        64,
        kernel_size=4,
        stride=stride,
        norm_layer=norm_layer,
        activation_layer=partial(nn.LeakyReLU, 0.2),
        **options,
    )
    theirs = layers(4, stride, 1, norm=norm)
    theirs[0].load_state_dict(unit.conv.state_dict())
    x = torch.randn(2, 3, 16, 12)
    torch.testing.assert_close(unit(x), theirs(x), rtol=0, atol=0)
    assert module_bytes(unit, x) == module_bytes(theirs, x)
    assert saved_bytes(unit, x) == saved_bytes(theirs, x)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel_size", [2, 4])
def test_padding_is_put_where_it_is_read_and_only_there(size, stride, kernel_size) -> None:
    unit = ConvNormAct(2, 3, kernel_size=kernel_size, stride=stride).double()
    x = torch.randn(2, 2, *size, dtype=torch.float64)
    conv, before = unit.conv, (kernel_size - 1) // 2
    both = F.pad(x, (before, before + 1, before, before + 1))
    expected = F.conv2d(both, conv.weight, conv.bias, stride)
    torch.testing.assert_close(unit(x), expected, **TOLERANCE)
    # The last window starts in row `last` of the padded map and reads to its end, or it does not.
    read = []
    for side in size:
        last = (-(-side // stride) - 1) * stride
        read.append(last + kernel_size == side + kernel_size - 1)
    rows, columns = read
    kept = 8 * x[0, 0].numel() if not any(read) else 8 * (size[0] + rows) * (size[1] + columns)
    assert module_bytes(unit, x) == 2 * 2 * kept


def test_zeros_that_another_padding_mirrors_stay() -> None:
    """A reflection shows the row of zeros, or the one before it."""
    unit = ConvNormAct(
        2, 3, kernel_size=4, stride=2, conv_layer=partial(nn.Conv2d, padding_mode="reflect")
    )
    x = torch.randn(1, 2, 8, 8)
    expected = unit.conv(F.pad(x, (0, 1, 0, 1)))
    torch.testing.assert_close(unit(x), expected, rtol=0, atol=0)


EVEN = [
    partial(DepthwiseConvNormAct, 4, 6, kernel_size=4, stride=2),
    partial(DepthwiseConvNormAct, 4, 6, kernel_size=4, stride=2, padding=1),
    partial(DepthwiseConvNormAct, 4, 6, kernel_size=3, padding=(0, 2)),
    partial(
        DepthwiseConvNormAct,
        *(4, 6),
        kernel_size=4,
        stride=2,
        norm_layer=nn.BatchNorm2d,
        activation_layer=nn.ReLU,
        inner_activation_layer=nn.ReLU,
    ),
    partial(InceptionBlock, 4, 6, kernel_sizes=(1, 2, 4), stride=2),
    partial(InceptionBlock, 4, 6, kernel_sizes=(4,), stride=2, bottleneck=False),
    partial(DepthwiseInceptionBlock, 4, 6, kernel_sizes=(2, 4), stride=2),
    partial(DownBlock, 4, 6, block=partial(ConvNormAct, kernel_size=4, stride=2)),
    partial(DownBlock, 4, 6, block=partial(ConvNormAct, kernel_size=4, padding=1)),
    partial(DownBlock, 3, 6, norm_layer=None, block=partial(ConvNormAct, padding=0)),
    partial(DownBlock, 3, 6, norm_layer=None, block=partial(ConvNormAct, padding=2)),
]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("memory_efficient", [True, "recompute"])
@pytest.mark.parametrize("index", range(len(EVEN)))
def test_lean_paths_pad_as_the_plain_composition(index, memory_efficient, frozen, layout) -> None:
    block = EVEN[index](memory_efficient=memory_efficient).double()
    block = block.to(memory_format=layout).requires_grad_(not frozen)
    twin = twin_of(block)
    for size in ((8, 8), (9, 8), (8, 9), (9, 9)):
        x = torch.randn(2, block.in_channels, *size, dtype=torch.float64)
        x = x.to(memory_format=layout)
        results = []
        for module in (block, twin):
            given = x.clone().requires_grad_()
            module.zero_grad()
            y = module(given)
            y.square().sum().backward()
            results.append([y, given.grad, *(p.grad for p in module.parameters())])
        for lean, plain in zip(*results, strict=True):
            assert (lean is None) == (plain is None)
            if lean is not None:
                torch.testing.assert_close(lean, plain, **TOLERANCE)


@pytest.mark.parametrize("kind", [ConvNormAct, DepthwiseConvNormAct])
def test_an_input_that_the_kernel_does_not_fit_is_refused(kind) -> None:
    unit = kind(3, 4, kernel_size=5, padding=(0, 1))
    assert unit(torch.zeros(1, 3, 5, 3)).shape == (1, 4, 1, 1)
    message = kind.__name__ + r": expected input of shape .* with H >= 5 and W >= 3, got \(1, 3, 4"
    with pytest.raises(ValueError, match=message):
        unit(torch.zeros(1, 3, 4, 3))
    with pytest.raises(ValueError, match=r"`width` must be >= 3, got 2"):
        unit.expected_macs(5, 2)


@pytest.mark.parametrize(
    ("block", "least"),
    [
        (DownBlock(3, 4), (2, 2)),
        (DownBlock(3, 4, pool_layer=None), (1, 1)),
        (DownBlock(3, 4, pool_layer=partial(nn.MaxPool2d, ceil_mode=True)), (1, 1)),
        (DownBlock(3, 4, block=partial(ConvNormAct, stride=3)), (4, 4)),
        (DownBlock(3, 4, block=partial(ConvNormAct, kernel_size=4, padding=(0, 2))), (5, 1)),
        (DownBlock(3, 4, block=DownBlock), (4, 4)),
        (DownBlock(3, 4, block=partial(InceptionBlock, stride=2)), (3, 3)),
        (DownBlock(3, 4, block=partial(DepthwiseConvNormAct, stride=2)), (3, 3)),
        (TransitionBlock(3), (2, 2)),
        (TransitionBlock(6, layer=InceptionBlock), (2, 2)),
    ],
)
def test_least_map_is_taken_and_a_smaller_one_is_refused_by_name(block, least) -> None:
    block.eval()
    x = torch.zeros(1, block.in_channels, *least)
    assert block.least_sides() == least
    assert min(block(x).shape) >= 1
    for smaller in (x[:, :, 1:], x[:, :, :, 1:]):
        with pytest.raises(ValueError, match=f"^{type(block).__name__}: expected input of shape"):
            block(smaller)


@pytest.mark.parametrize(
    ("padding", "written"),
    [(None, "3, 4"), (1, "3, 4, padding=1"), ((1, 0), "3, 4, padding=(1, 0)")],
)
def test_padding_is_printed_where_it_is_given(padding, written: str) -> None:
    assert ConvNormAct(3, 4, padding=padding).extra_repr() == written
    assert DepthwiseConvNormAct(3, 4, padding=padding).extra_repr() == written
