"""InceptionBlock against googlenet's, and in the two forms of GAS (2018)."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torchvision.models.googlenet import Inception

from gaslayers import InceptionBlock
from tests.blocks.catalogue import TOLERANCE
from tests.blocks.oracles import slow_same_convolution

GOOGLENET_BRANCHES = {
    "branches.0.conv": "branch1",
    "branches.1.reduce": "branch2.0",
    "branches.1.conv": "branch2.1",
    "branches.2.reduce": "branch3.0",
    "branches.2.conv": "branch3.1",
}


def googlenet_pair() -> tuple[InceptionBlock, Inception]:
    """Our block without a pooling branch, and googlenet's with the same numbers."""
    peer = Inception(192, 64, 96, 128, 16, 32, 32).double()
    block = InceptionBlock(
        192,
        64 + 128 + 32,
        kernel_sizes=(1, 3, 3),  # the peer's "5x5" is a 3x3, a known bug that weights depend on
        branch_channels=(64, 128, 32),
        bottleneck_channels=(64, 96, 16),
        norm_layer=partial(nn.BatchNorm2d, eps=0.001),
        activation_layer=nn.ReLU,
    ).double()
    for ours, theirs in GOOGLENET_BRANCHES.items():
        source = peer.get_submodule(theirs)
        for value in (source.bn.weight.data, source.bn.bias.data, source.bn.running_mean):
            value.normal_(0.5, 0.2)
        block.get_submodule(ours).conv.load_state_dict(source.conv.state_dict())
        block.get_submodule(ours).norm.load_state_dict(source.bn.state_dict())
    return block, peer


@pytest.mark.parametrize("training", [True, False])
def test_block_equals_googlenets_first_three_branches(training: bool) -> None:
    block, peer = googlenet_pair()
    x = torch.randn(2, 192, 6, 5, dtype=torch.float64)
    results = []
    for module, channels in ((block, 224), (peer, 224)):
        image = x.clone().requires_grad_()
        y = module.train(training)(image)[:, :channels]
        weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
        (y * weights).sum().backward()
        results.append((y, image.grad))
    (ours, our_gradient), (theirs, their_gradient) = results
    torch.testing.assert_close(ours, theirs, **TOLERANCE)
    torch.testing.assert_close(our_gradient, their_gradient, **TOLERANCE)
    for name, branch in GOOGLENET_BRANCHES.items():
        unit, source = block.get_submodule(name), peer.get_submodule(branch)
        for actual, expected in (
            (unit.conv.weight.grad, source.conv.weight.grad),
            (unit.norm.weight.grad, source.bn.weight.grad),
            (unit.norm.running_var, source.bn.running_var),
        ):
            torch.testing.assert_close(actual, expected, **TOLERANCE)


def test_both_branches_read_the_input_without_a_bottleneck() -> None:
    block = InceptionBlock(3, 5, bottleneck=False).double()
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    one, three = (branch.conv.conv for branch in block.branches)
    expected = [slow_same_convolution(x, conv.weight, conv.bias) for conv in (one, three)]
    assert [conv.kernel_size for conv in (one, three)] == [(1, 1), (3, 3)]
    torch.testing.assert_close(block(x), torch.cat(expected, dim=1), **TOLERANCE)


def test_the_larger_kernel_reads_the_one_by_one_with_a_bottleneck() -> None:
    block = InceptionBlock(3, 5).double()
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    one, (reduce, three) = block.branches[0].conv.conv, (part.conv for part in block.branches[1])
    reduced = slow_same_convolution(x, reduce.weight, reduce.bias)
    expected = [
        slow_same_convolution(x, one.weight, one.bias),
        slow_same_convolution(reduced, three.weight, three.bias),
    ]
    torch.testing.assert_close(block(x), torch.cat(expected, dim=1), **TOLERANCE)


def test_last_convolutions_take_the_stride_and_larger_kernels_the_dilation() -> None:
    block = InceptionBlock(3, 6, kernel_sizes=(1, 3, 4), stride=2, dilation=3)
    geometry = {
        name: (module.kernel_size[0], module.stride[0], module.dilation[0])
        for name, module in block.named_modules()
        if isinstance(module, nn.Conv2d)
    }
    assert geometry == {
        "branches.0.conv.conv": (1, 2, 1),
        "branches.1.reduce.conv": (1, 1, 1),
        "branches.1.conv.conv": (3, 2, 3),
        "branches.2.reduce.conv": (1, 1, 1),
        "branches.2.conv.conv": (4, 2, 3),
    }


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"in_channels": 0}, ValueError, r"`in_channels` must be >= 1, got 0"),
        ({"out_channels": 1}, ValueError, r"`out_channels` must give each of the 2 branches"),
        ({"kernel_sizes": ()}, ValueError, r"`kernel_sizes` must hold at least one int, got \(\)"),
        ({"kernel_sizes": 3}, TypeError, r"`kernel_sizes` must be a sequence of ints, got 3"),
        ({"kernel_sizes": (1, 0)}, ValueError, r"`kernel_sizes` must be >= 1, got 0"),
        ({"bottleneck": None}, TypeError, r"`bottleneck` must be a bool, got None"),
        ({"branch_channels": (2, 1)}, ValueError, r"`branch_channels` must sum to out_channels"),
        ({"branch_channels": (4,)}, ValueError, r"`branch_channels` must have one entry for each"),
        ({"bottleneck_channels": (2,)}, ValueError, r"`bottleneck_channels` must have one entry"),
        ({"bottleneck_channels": (2, 0)}, ValueError, r"`bottleneck_channels` must be >= 1, got 0"),
        (
            {"bottleneck_channels": (2, 2), "bottleneck": False},
            ValueError,
            r"`bottleneck_channels` must be None without a bottleneck, got \(2, 2\)",
        ),
        ({"stride": 0}, ValueError, r"`stride` must be >= 1, got 0"),
        ({"dilation": 0, "kernel_sizes": (1,)}, ValueError, r"`dilation` must be >= 1, got 0"),
        ({"bias": 0}, TypeError, r"`bias` must be a bool or None, got 0"),
        ({"conv_layer": None}, TypeError, r"`conv_layer` must be a callable that builds a layer"),
        ({"norm_layer": 3}, TypeError, r"`norm_layer` must be a callable .* or None, got 3"),
        ({"activation_layer": 3}, TypeError, r"`activation_layer` must be a callable .* or None"),
        (
            {"memory_efficient": 1},
            TypeError,
            r'`memory_efficient` must be a bool or "recompute", got 1',
        ),
    ],
)
def test_wrong_argument_is_refused(arguments: dict, error: type, message: str) -> None:
    with pytest.raises(error, match="InceptionBlock: " + message):
        InceptionBlock(**{"in_channels": 3, "out_channels": 4, **arguments})


def test_wrong_input_is_refused() -> None:
    message = r"InceptionBlock: expected input of shape \(N, 3, H, W\), got \(2, 1, 5, 5\)\."
    with pytest.raises(ValueError, match=message):
        InceptionBlock(3, 4)(torch.zeros(2, 1, 5, 5))
