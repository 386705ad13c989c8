"""The LSGAN generator of GAS (2018) against NHWC reshapes and a step-by-step oracle."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gaslayers.models import LSGANGenerator
from gaslayers.models.generator import _pixel_shuffle, _raw_reshape

# Compared in float64, where another order of summation moves the last digits alone.
TOLERANCE = {"rtol": 1e-9, "atol": 1e-11}

SIZES = {"n": st.integers(1, 3), "c": st.integers(1, 3), "h": st.integers(1, 5)}


@given(**SIZES, w=st.integers(1, 5), channels_last=st.booleans())
def test_raw_reshape_equals_numpys_on_channels_last_memory(n, c, h, w, channels_last) -> None:
    x = torch.randn(n, 4 * c, h, w)
    memory = x.permute(0, 2, 3, 1).numpy().reshape(n, 2 * h, 2 * w, c)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    expected = torch.from_numpy(memory).permute(0, 3, 1, 2)
    torch.testing.assert_close(_raw_reshape(x), expected, rtol=0, atol=0)


def test_raw_reshape_copies_nothing_in_channels_last_memory() -> None:
    x = torch.randn(2, 8, 4, 4).contiguous(memory_format=torch.channels_last)
    y = _raw_reshape(x)
    assert y.data_ptr() == x.data_ptr()
    assert y.is_contiguous(memory_format=torch.channels_last)


@given(**SIZES, w=st.integers(1, 5))
def test_pixel_shuffle_equals_torchs(n: int, c: int, h: int, w: int) -> None:
    x = torch.randn(n, 4 * c, h, w)
    torch.testing.assert_close(_pixel_shuffle(x), F.pixel_shuffle(x, 2), rtol=0, atol=0)


def test_parameters_are_the_originals_less_the_gammas_of_its_norms() -> None:
    network = LSGANGenerator()
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert [norm.num_features for norm in norms] == [6272, 256, 128]
    gammas = sum(norm.num_features for norm in norms)
    trainable = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert trainable == 1_671_969 - gammas
    modern = LSGANGenerator(variant="modern")
    assert sum(p.numel() for p in modern.parameters() if p.requires_grad) == 1_671_969


@pytest.mark.parametrize("upsampling", ["raw_reshape", "pixel_shuffle"])
def test_network_equals_the_original_step_by_step(upsampling: str) -> None:
    network = LSGANGenerator(10, base_channels=8, image_size=12, upsampling=upsampling).double()
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.1, 0.3)
    z = torch.randn(3, 10, dtype=torch.float64)

    def norm(x, layer):
        axes = [axis for axis in range(x.dim()) if axis != 1]
        variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
        shape = (1, -1, *[1] * (x.dim() - 2))
        scaled = (x - mean) / (variance + 1e-3).sqrt() * layer.weight.view(shape)
        return scaled + layer.bias.view(shape)

    def upsample(x):
        if upsampling == "pixel_shuffle":
            return F.pixel_shuffle(x, 2)
        n, c, h, w = x.shape
        memory = x.permute(0, 2, 3, 1).reshape(n, 2 * h, 2 * w, c // 4)
        return memory.permute(0, 3, 1, 2)

    x = norm(F.linear(z, network.project.weight, network.project.bias), network.project_norm)
    x = x.relu().view(3, 3, 3, 8).permute(0, 3, 1, 2)
    for step in (network.conv_quarter, network.conv_half):
        y = F.conv2d(x, step.conv.weight, step.conv.bias, padding=2)
        x = upsample(norm(y, step.norm).relu())
    last = network.conv_full.conv
    expected = F.conv2d(x, last.weight, last.bias, padding=2).tanh()
    assert expected.shape == (3, 1, 12, 12)
    torch.testing.assert_close(network(z), expected, **TOLERANCE)


@settings(max_examples=15)
@given(
    latent_size=st.integers(1, 8),
    out_channels=st.integers(1, 4),
    image_size=st.integers(1, 40),
    base_channels=st.sampled_from([4, 8, 12]),
    upsampling=st.sampled_from(["raw_reshape", "pixel_shuffle"]),
    variant=st.sampled_from(["as_coded", "modern"]),
)
def test_network_makes_images_of_any_size_in_range(
    latent_size, out_channels, image_size, base_channels, upsampling, variant
) -> None:
    network = LSGANGenerator(
        latent_size,
        out_channels=out_channels,
        image_size=image_size,
        base_channels=base_channels,
        upsampling=upsampling,
        variant=variant,
    )
    images = network(torch.randn(2, latent_size))
    assert images.shape == (2, out_channels, image_size, image_size)
    assert images.abs().max() <= 1


def test_network_makes_the_same_images_in_channels_last_memory() -> None:
    network = LSGANGenerator(10, base_channels=8).double().eval()
    z = torch.randn(2, 10, dtype=torch.float64)
    expected = network(z)
    actual = network.to(memory_format=torch.channels_last)(z)
    torch.testing.assert_close(actual, expected, **TOLERANCE)


def test_variants_differ_in_norms_and_init() -> None:
    coded, modern = (LSGANGenerator(variant=variant) for variant in ("as_coded", "modern"))
    assert type(coded.conv_half.norm).__name__ == "OffsetBatchNorm2d"
    assert type(modern.conv_half.norm) is nn.BatchNorm2d
    fan_in = 64 * 25
    assert coded.conv_half.conv.weight.abs().max() <= 0.04
    std = modern.conv_half.conv.weight.std().item()
    assert std == pytest.approx((2 / 1.04 / fan_in) ** 0.5, rel=0.03)


def test_representation_rebuilds_the_network() -> None:
    network = LSGANGenerator(7, base_channels=8, upsampling="pixel_shuffle", variant="modern")
    rebuilt = eval(f"LSGANGenerator({network.extra_repr()})")
    rebuilt.load_state_dict(network.state_dict())
    z = torch.randn(2, 7)
    torch.testing.assert_close(rebuilt(z), network(z), rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(10,), (2, 9), (2, 10, 1), (2, 10, 1, 1)])
def test_wrong_input_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"LSGANGenerator: expected input of shape \(N, 10\), got"):
        LSGANGenerator(10, base_channels=4)(torch.zeros(shape))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"latent_size": 0}, ValueError, r"`latent_size` must be >= 1, got 0"),
        ({"out_channels": 0}, ValueError, r"`out_channels` must be >= 1, got 0"),
        ({"image_size": 2.5}, TypeError, r"`image_size` must be an int, got 2\.5"),
        ({"base_channels": 6}, ValueError, r"`base_channels` must be divisible by 4, got 6"),
        ({"upsampling": "nearest"}, ValueError, r"`upsampling` must be one of 'raw_reshape', 'pix"),
        ({"variant": "as_described"}, ValueError, r"`variant` must be one of 'as_coded', 'modern'"),
    ],
)
def test_wrong_argument_is_refused(arguments: dict, error: type, message: str) -> None:
    with pytest.raises(error, match="LSGANGenerator: " + message):
        LSGANGenerator(**arguments)
