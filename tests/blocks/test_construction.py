"""Where blocks are built, in which precision, and what factories may and may not do."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from gaslayers import (
    ConvNormAct,
    DenseBlock,
    DepthwiseConvNormAct,
    DepthwiseInceptionBlock,
    DownBlock,
    InceptionBlock,
    TransitionBlock,
)
from tests.blocks.catalogue import CATALOGUE

BLOCKS = [
    ConvNormAct,
    DenseBlock,
    DepthwiseConvNormAct,
    DepthwiseInceptionBlock,
    DownBlock,
    InceptionBlock,
    TransitionBlock,
]


def devices(module: nn.Module) -> set[str]:
    return {value.device.type for value in module.state_dict().values()}


def precisions(module: nn.Module) -> set[torch.dtype]:
    values = [*module.parameters(), *module.buffers()]
    return {value.dtype for value in values if value.is_floating_point()}


@pytest.mark.parametrize("name", CATALOGUE)
def test_block_is_built_where_and_as_it_is_asked_to_be(name: str) -> None:
    block = CATALOGUE[name].factory(in_channels=3, device="meta", dtype=torch.bfloat16)
    assert devices(block) == {"meta"}
    assert precisions(block) == {torch.bfloat16}
    assert list(block.state_dict()) == CATALOGUE[name].state.split()


@pytest.mark.parametrize("name", CATALOGUE)
def test_converted_block_holds_the_draws_of_the_default_precision(name: str) -> None:
    torch.manual_seed(1)
    expected = CATALOGUE[name].factory(in_channels=3).double().state_dict()
    torch.manual_seed(1)
    found = CATALOGUE[name].factory(in_channels=3, device="cpu", dtype=torch.float64).state_dict()
    for key, value in found.items():
        torch.testing.assert_close(value, expected[key], rtol=0, atol=0)


@pytest.mark.parametrize("kind", BLOCKS)
def test_block_on_another_device_never_takes_memory_on_this_one(kind: type[nn.Module]) -> None:
    assert kind(2**22, 2**22, device="meta").out_channels >= 2**22  # 2**46 bytes and more


@pytest.mark.parametrize("kind", BLOCKS)
def test_skip_init_takes_a_block(kind: type[nn.Module]) -> None:
    block = nn.utils.skip_init(kind, 4, 6)
    assert devices(block) == {"cpu"}
    block.reset_parameters()
    assert block(torch.randn(2, 4, 8, 8)).isfinite().all()


def test_factories_that_know_no_device_are_placed_all_the_same() -> None:
    def norm_layer(channels: int) -> nn.Module:
        norm = nn.BatchNorm2d(channels)
        norm.weight = nn.Parameter(torch.from_numpy(np.ones(channels)))  # heeds no default device
        return norm

    block = DownBlock(
        3, 4, norm_layer=norm_layer, block=lambda i, o: InceptionBlock(i, o), device="meta"
    )
    assert devices(block) == {"meta"}
    assert block.norm.weight.dtype == torch.float64
    block = DownBlock(3, 4, norm_layer=norm_layer, dtype=torch.float16)
    assert precisions(block) == {torch.float16}


def test_conversion_keeps_a_parametrisation() -> None:
    def conv_layer(*sizes: int, **options) -> nn.Module:
        return nn.utils.parametrizations.spectral_norm(nn.Conv2d(*sizes, **options))

    unit = ConvNormAct(3, 4, conv_layer=conv_layer, dtype=torch.float64)
    assert nn.utils.parametrize.is_parametrized(unit.conv, "weight")
    assert unit(torch.zeros(1, 3, 4, 4, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"device": "nowhere"}, ValueError, "`device` must be a device that .* got 'nowhere'"),
        ({"device": -1}, ValueError, "`device` must be a device that PyTorch finds here, got -1"),
        ({"device": 1.5}, TypeError, r"`device` must be a torch.device, a str or an int, got 1\.5"),
        ({"dtype": torch.int64}, ValueError, "`dtype` must be a floating-point dtype, got torch.i"),
        ({"dtype": "float32"}, TypeError, "`dtype` must be a torch.dtype or None, got 'float32'"),
    ],
)
def test_wrong_place_is_refused(kind, arguments: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=f"{kind.__name__}: {message}"):
        kind(3, 4, **arguments)


# Which factories a block takes; each is called with one of the layers' own arguments.
FACTORIES = [
    (ConvNormAct, "conv_layer"),
    (ConvNormAct, "norm_layer"),
    (ConvNormAct, "activation_layer"),
    (DepthwiseConvNormAct, "conv_layer"),
    (DepthwiseConvNormAct, "norm_layer"),
    (DepthwiseConvNormAct, "activation_layer"),
    (DepthwiseConvNormAct, "inner_norm_layer"),
    (DepthwiseConvNormAct, "inner_activation_layer"),
    (InceptionBlock, "conv_layer"),
    (InceptionBlock, "norm_layer"),
    (InceptionBlock, "activation_layer"),
    (DepthwiseInceptionBlock, "conv_layer"),
    (DepthwiseInceptionBlock, "norm_layer"),
    (DepthwiseInceptionBlock, "activation_layer"),
    (DepthwiseInceptionBlock, "inner_norm_layer"),
    (DepthwiseInceptionBlock, "inner_activation_layer"),
    (DepthwiseInceptionBlock, "separable_layer"),
    (DenseBlock, "layer"),
    (DenseBlock, "norm_layer"),
    (DenseBlock, "activation_layer"),
    (TransitionBlock, "layer"),
    (TransitionBlock, "norm_layer"),
    (TransitionBlock, "activation_layer"),
    (TransitionBlock, "pool_layer"),
    (DownBlock, "block"),
    (DownBlock, "norm_layer"),
    (DownBlock, "activation_layer"),
    (DownBlock, "pool_layer"),
]


@pytest.mark.parametrize(("kind", "argument"), FACTORIES)
@pytest.mark.parametrize("built", [None, "relu", torch.zeros(2), nn.ReLU, torch.relu])
def test_factory_that_builds_no_layer_is_named(kind, argument: str, built: object) -> None:
    message = f"^{kind.__name__}: `{argument}` must build a layer, got .* must return a torch"
    with pytest.raises(TypeError, match=message):
        kind(4, 6, **{argument: lambda *sizes, **options: built})


@pytest.mark.parametrize(("kind", "argument"), FACTORIES)
def test_factory_that_takes_other_arguments_is_named(kind, argument: str) -> None:
    message = f"^{kind.__name__}: `{argument}` must take the arguments "
    with pytest.raises(TypeError, match=message):
        kind(4, 6, **{argument: lambda *sizes, wanted, **options: nn.Identity()})


@pytest.mark.parametrize("factory", [int, dict, len, range])
def test_builtin_that_refuses_the_call_is_named(factory) -> None:
    with pytest.raises(TypeError, match=r"^DenseBlock: `layer` must (take the arg|build a layer)"):
        DenseBlock(3, 1, layer=factory)


@pytest.mark.parametrize(("kind", "argument"), FACTORIES)
@pytest.mark.parametrize("error", [TypeError, ValueError, KeyError, NotImplementedError])
def test_what_a_factory_raises_itself_passes_through(kind, argument: str, error: type) -> None:
    def factory(*sizes: int, **options) -> nn.Module:
        raise error("of its own")

    with pytest.raises(error, match="of its own") as caught:
        kind(4, 6, **{argument: factory})
    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("kind", "argument"),
    [
        (DownBlock, "block"),
        (DenseBlock, "layer"),
        (TransitionBlock, "layer"),
        (DepthwiseInceptionBlock, "separable_layer"),
    ],
)
def test_layer_of_other_channels_is_named(kind, argument: str) -> None:
    with pytest.raises(ValueError, match=rf"`{argument}` must build a layer with out_channels"):
        kind(4, 6, **{argument: lambda i, o, **options: nn.Conv2d(i, o + 1, 1)})


def test_block_within_a_factory_speaks_for_itself() -> None:
    with pytest.raises(ValueError, match=r"^InceptionBlock: `kernel_sizes` must hold at least one"):
        DownBlock(3, 4, block=partial(InceptionBlock, kernel_sizes=()))
    with pytest.raises(TypeError, match=r"^InceptionBlock: `norm_layer` must build a layer, got N"):
        DenseBlock(3, 4, layer=partial(InceptionBlock, norm_layer=lambda channels: None))


@pytest.mark.parametrize(
    ("kind", "sizes", "argument"),
    [
        (ConvNormAct, (10**15, 10), "conv_layer"),
        (ConvNormAct, (2**62, 2**62), "conv_layer"),
        (InceptionBlock, (10**15, 10), "conv_layer"),
        (DownBlock, (3, 10**16), "block"),
        (TransitionBlock, (10**16, 1), "norm_layer"),
    ],
)
def test_sizes_that_no_memory_holds_are_refused(kind, sizes, argument: str) -> None:
    with pytest.raises(ValueError, match=r"`\w+` must build a layer for \(.*got RuntimeError"):
        kind(*sizes)


@pytest.mark.parametrize("kind", BLOCKS)
def test_numpys_integers_are_sizes(kind) -> None:
    block = kind(np.int64(4), np.uint8(6))
    assert type(block.in_channels) is int
    assert repr(block) == repr(kind(4, 6))
    with pytest.raises(TypeError, match=r"`in_channels` must be an int, got np\.True_"):
        kind(np.True_, 6)


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize(
    "value", ["lean", 1, None, np.True_, np.array([True, False]), ["recompute"]]
)
def test_other_words_for_memory_are_refused(kind, value: object) -> None:
    message = rf'{kind.__name__}: `memory_efficient` must be a bool or "recompute", got '
    with pytest.raises(TypeError, match=message):
        kind(4, 6, memory_efficient=value)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("kind", BLOCKS)
def test_recompute_is_the_plain_function(kind, frozen: bool) -> None:
    block = kind(4, 6, memory_efficient="recompute").double().requires_grad_(not frozen)
    plain = kind(4, 6, memory_efficient=False).double().requires_grad_(not frozen)
    plain.load_state_dict(block.state_dict())
    assert "memory_efficient='recompute'" in repr(block)
    x = torch.randn(2, 4, 8, 8, dtype=torch.float64)
    results = []
    for module in (block, plain):
        given = x.clone().requires_grad_()
        y = module(given)
        y.square().sum().backward()
        results.append((y, given.grad))
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize(
    "x", [None, [[1.0]], "x", 3, np.zeros((2, 4, 8, 8)), torch.zeros(2, 4, 8, 8, dtype=torch.bool)]
)
def test_what_is_no_map_of_numbers_is_refused_by_name(kind, x: object) -> None:
    with pytest.raises(TypeError, match=f"^{kind.__name__}: `x` must be a "):
        kind(4, 6)(x)


@pytest.mark.parametrize("kind", BLOCKS)
def test_image_without_a_batch_is_refused_as_batch_norm_refuses_it(kind) -> None:
    with pytest.raises(ValueError, match=r"expected 4D input"):
        nn.BatchNorm2d(4)(torch.zeros(4, 8, 8))
    message = rf"^{kind.__name__}: expected input of shape \(N, 4, H, W\), got \(4, 8, 8\)\. Add"
    with pytest.raises(ValueError, match=message):
        kind(4, 6)(torch.zeros(4, 8, 8))
