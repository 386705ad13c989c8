"""DenseBlock against torchvision's with copied weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models.densenet import _DenseBlock

from gaslayers import DenseBlock, InceptionBlock
from tests.blocks.catalogue import TOLERANCE

PARTS = {"norm": "norm1", "conv.reduce": "conv1", "conv.norm": "norm2", "conv.conv": "conv2"}


def torchvision_pair(num_layers: int = 3) -> tuple[DenseBlock, _DenseBlock]:
    """Our DenseNet-B block and torchvision's with the same numbers."""
    peer = _DenseBlock(num_layers, 5, bn_size=4, growth_rate=3, drop_rate=0).double()
    block = DenseBlock(5, 3, num_layers=num_layers, bottleneck_factor=4).double()
    for i in range(num_layers):
        for ours, theirs in PARTS.items():
            source = peer.get_submodule(f"denselayer{i + 1}.{theirs}")
            if isinstance(source, nn.BatchNorm2d):
                for value in (source.weight.data, source.bias.data, source.running_mean):
                    value.normal_(0.5, 0.2)
            block.layers[i].get_submodule(ours).load_state_dict(source.state_dict())
    return block, peer


@pytest.mark.parametrize("training", [True, False])
def test_block_equals_torchvisions_with_copied_weights(training: bool) -> None:
    block, peer = torchvision_pair()
    x = torch.randn(3, 5, 6, 5, dtype=torch.float64)
    results = []
    for module in (block, peer):
        image = x.clone().requires_grad_()
        y = module.train(training)(image)
        weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
        (y * weights).sum().backward()
        results.append((y, image.grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, **TOLERANCE)
    for i in range(3):
        for name, source in PARTS.items():
            layer = block.layers[i].get_submodule(name)
            peers = peer.get_submodule(f"denselayer{i + 1}.{source}")
            torch.testing.assert_close(layer.weight.grad, peers.weight.grad, **TOLERANCE)
            if isinstance(layer, nn.BatchNorm2d):
                torch.testing.assert_close(layer.running_var, peers.running_var, **TOLERANCE)
                assert layer.num_batches_tracked == peers.num_batches_tracked == int(training)


def test_input_comes_first_and_each_layer_reads_all_before_it() -> None:
    block = DenseBlock(2, 3, num_layers=3, layer=InceptionBlock)
    x = torch.randn(2, 2, 4, 4)
    features = x
    for layer in block.layers:
        assert layer.in_channels == features.shape[1]
        features = torch.cat([features, layer(features)], dim=1)
    y = block(x)
    torch.testing.assert_close(y[:, :2], x, rtol=0, atol=0)
    torch.testing.assert_close(y, features)
    assert block.out_channels == y.shape[1] == 11


def test_each_layer_has_a_convolution_of_its_own() -> None:
    block = DenseBlock(2, 3, num_layers=2, layer=InceptionBlock)
    assert block.layers[0].conv is not block.layers[1].conv


def test_dropout_drops_new_features_in_training_alone() -> None:
    block = DenseBlock(2, 8, num_layers=1, drop_rate=0.5)
    x = torch.randn(4, 2, 8, 8)
    y = block(x)
    assert (y[:, 2:] == 0).float().mean().item() == pytest.approx(0.5, abs=0.05)
    torch.testing.assert_close(y[:, :2], x, rtol=0, atol=0)
    assert not (block.eval()(x)[:, 2:] == 0).any()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"in_channels": 0}, ValueError, r"`in_channels` must be >= 1, got 0"),
        ({"growth_rate": 0}, ValueError, r"`growth_rate` must be >= 1, got 0\."),
        ({"num_layers": 0}, ValueError, r"`num_layers` must be >= 1, got 0"),
        ({"bottleneck_factor": 0}, ValueError, r"`bottleneck_factor` must be >= 1, got 0"),
        (
            {"bottleneck_factor": 4, "layer": InceptionBlock},
            ValueError,
            r"`bottleneck_factor` must be None when `layer` is given, got 4",
        ),
        ({"layer": nn.ReLU()}, TypeError, r"`layer` must be a callable that builds a layer or"),
        ({"norm_layer": 1}, TypeError, r"`norm_layer` must be a callable that builds a layer or"),
        ({"activation_layer": 1}, TypeError, r"`activation_layer` must be a callable that builds"),
        ({"drop_rate": 1.0}, ValueError, r"`drop_rate` must be < 1\.0, got 1\.0"),
        ({"drop_rate": -0.1}, ValueError, r"`drop_rate` must be >= 0\.0, got -0\.1"),
        (
            {"memory_efficient": 1},
            TypeError,
            r'`memory_efficient` must be a bool or "recompute", got 1',
        ),
    ],
)
def test_wrong_argument_is_refused(arguments: dict, error: type, message: str) -> None:
    with pytest.raises(error, match="DenseBlock: " + message):
        DenseBlock(**{"in_channels": 3, "growth_rate": 4, **arguments})


def test_wrong_input_is_refused() -> None:
    message = r"DenseBlock: expected input of shape \(N, 3, H, W\), got \(2, 4, 5, 5\)\."
    with pytest.raises(ValueError, match=message):
        DenseBlock(3, 4)(torch.zeros(2, 4, 5, 5))
