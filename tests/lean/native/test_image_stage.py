"""The kernels for a stage that reads an image against PyTorch's operators, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from gaslayers import ConvNormAct, DownBlock, peak_memory
from gaslayers.blocks import down
from gaslayers.lean.fused.pool.kernel_pool import KernelPool
from gaslayers.lean.fused.stage import image as stage
from gaslayers.lean.native import availability, image_gradient, image_stage, pool
from gaslayers.lean.native.compiling import library_path
from gaslayers.lean.native.kernels import Kernels
from tests.lean.native.maps import LAST
from tests.lean.native.needs import CAPABILITIES, needs_kernels, rounds_alike
from tests.lean.twins import assert_equal_twins, code_bytes, module_bytes, step, twin_of

NAN = float("nan")
LEAKY = partial(nn.LeakyReLU, 0.2)
CEIL = partial(nn.MaxPool2d, ceil_mode=True)

pytestmark = needs_kernels


def image(*shape: int, seed: int = 0) -> Tensor:
    """Random, in channels_last also where a single channel does not tell."""
    count, channels, height, width = shape
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, height, width, channels, generator=generator).permute(0, 3, 1, 2)


def first_stage(in_channels: int = 1, out_channels: int = 32, **options: Any) -> DownBlock:
    """The first stage of a discriminator: a convolution, an activation and pooling."""
    torch.manual_seed(0)
    return DownBlock(
        in_channels, out_channels, **{"norm_layer": None, "pool_layer": CEIL} | options
    ).to(memory_format=LAST)


@pytest.fixture
def runs(monkeypatch) -> list[tuple[int, ...]]:
    """Shapes of the images that the kernels read in a block's forward."""
    seen: list[tuple[int, ...]] = []
    run = down.run_image_stage

    def spy(conv: Any, x: Tensor, *arguments: Any, **options: Any) -> Tensor:
        seen.append(tuple(x.shape))
        return run(conv, x, *arguments, **options)

    monkeypatch.setattr(down, "run_image_stage", spy)
    return seen


@settings(max_examples=150)
@given(
    count=st.integers(1, 3),
    channels=st.integers(1, 4),
    out_channels=st.sampled_from([2, 7, 8, 16, 20, 33]),
    size=st.tuples(st.integers(1, 20), st.integers(1, 40)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    padding=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    bias=st.booleans(),
    special=st.sampled_from([None, NAN]),
    slope=st.sampled_from([0.0, 0.2, 1.0]),
    ceil_mode=st.booleans(),
    columns_first=st.booleans(),
    weight_layout=st.sampled_from([LAST, torch.contiguous_format]),
    capability=st.sampled_from(CAPABILITIES),
    seed=st.integers(0, 1000),
)
def test_both_passes_are_those_of_the_layers(
    count,
    channels,
    out_channels,
    size,
    kernel,
    padding,
    bias,
    special,
    slope,
    ceil_mode,
    columns_first,
    weight_layout,
    capability,
    seed,
) -> None:
    padding = tuple(min(p, k - 1) for p, k in zip(padding, kernel, strict=True))
    rows, columns = (s + 2 * p - k + 1 for s, p, k in zip(size, padding, kernel, strict=True))
    assume(rows > 1 and columns > 1)
    # Of whole numbers, so that sums are exact in every order.
    generator = torch.Generator().manual_seed(seed)
    x = image(count, channels, *size, seed=seed).mul_(2).round_()
    weight = torch.randint(-9, 9, (out_channels, channels, *kernel), generator=generator).float()
    weight = weight.contiguous(memory_format=weight_layout)
    offsets = torch.randint(-5, 5, (out_channels,), generator=generator).float() if bias else None
    if special is not None:
        x[0, 0, 0, 0] = special
    convolved = F.conv2d(x, weight, offsets, padding=padding).contiguous(memory_format=LAST)
    expected = pool.pool(convolved, slope, LAST, ceil_mode=ceil_mode)
    kernels = Kernels(library_path(capability))
    with mock.patch.object(image_stage, "kernels", return_value=kernels):
        pooled, packed = image_stage.run(
            *(x, weight, offsets, padding, slope), ceil_mode=ceil_mode, columns_first=columns_first
        )
    assert pooled.is_contiguous(memory_format=LAST)
    torch.testing.assert_close(pooled, expected[0], rtol=0.0, atol=0.0, equal_nan=True)
    assert torch.equal(packed, expected[1])

    grad = image(*pooled.shape, seed=seed).mul_(4).round_()
    if slope == 0.2:
        grad.mul_(5)  # a multiple of which is whole, too
    spread = KernelPool(slope, 2, ceil_mode, convolved.shape, LAST).backward(grad, (packed,))
    pooled_call = image_gradient.Pooled(packed, slope, rows, columns)
    with mock.patch.object(image_gradient, "kernels", return_value=kernels):
        found = image_gradient.run(grad, weight, x.shape, padding, pooled_call)
        whole = image_gradient.run(spread, weight, x.shape, padding)
    assert torch.equal(found, whole)


@rounds_alike
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("activation", [nn.ReLU, LEAKY, None])
@pytest.mark.parametrize(
    ("in_channels", "out_channels", "size", "pool_layer"),
    [
        (1, 32, (28, 28), CEIL),
        (3, 64, (16, 16), nn.MaxPool2d),
        (1, 20, (7, 9), CEIL),
        (2, 8, (5, 6), nn.MaxPool2d),
    ],
)
def test_a_first_stage_runs_them_to_the_bit(
    runs, in_channels, out_channels, size, pool_layer, activation, frozen
) -> None:
    block = first_stage(
        in_channels, out_channels, activation_layer=activation, pool_layer=pool_layer
    ).requires_grad_(not frozen)
    x = image(5, in_channels, *size)
    assert_equal_twins(block, x, input_grad=True)
    assert runs == [tuple(x.shape)]


@rounds_alike
@pytest.mark.parametrize("trained", ["body.conv.weight", "body.conv.bias"])
@pytest.mark.parametrize("input_grad", [True, False])
def test_a_parameter_alone_gets_its_gradient(runs, trained, input_grad) -> None:
    block = first_stage()
    for name, parameter in block.named_parameters():
        parameter.requires_grad_(name == trained)
    assert_equal_twins(block, image(3, 1, 8, 8), input_grad=input_grad)
    assert runs


def test_where_pytorch_rounds_otherwise_the_layers_run(monkeypatch, runs) -> None:
    run = image_stage.run

    def inexact(*arguments: Any, **options: Any) -> tuple[Tensor, Tensor]:
        pooled, packed = run(*arguments, **options)
        return pooled * (1 + 2**-20), packed

    monkeypatch.setattr(image_stage, "run", inexact)
    stage._order.cache_clear()
    assert_equal_twins(first_stage(), image(2, 1, 6, 6))
    assert not runs
    stage._order.cache_clear()


def hooked(block: DownBlock, name: str) -> DownBlock:
    block.get_submodule(name).register_forward_hook(lambda *_: None)
    return block


def replaced(block: DownBlock, name: str) -> DownBlock:
    module = block.get_submodule(name)
    module.forward = type(module).forward.__get__(module)
    return block


CONV = partial(ConvNormAct, norm_layer=None, activation_layer=None)


@pytest.mark.parametrize(
    "make",
    [
        lambda: first_stage(norm_layer=nn.BatchNorm2d),
        lambda: first_stage(block=partial(CONV, norm_layer=nn.BatchNorm2d)),
        lambda: first_stage(block=partial(CONV, activation_layer=nn.ReLU)),
        lambda: first_stage(block=partial(CONV, memory_efficient=False)),
        lambda: first_stage(block=partial(CONV, kernel_size=1)),
        lambda: first_stage(block=partial(CONV, kernel_size=2)),
        lambda: first_stage(block=partial(CONV, stride=2)),
        lambda: first_stage(block=partial(CONV, dilation=2)),
        lambda: first_stage(out_channels=1),
        lambda: first_stage(pool_layer=nn.AvgPool2d),
        lambda: first_stage(pool_layer=lambda _: nn.MaxPool2d(3)),
        lambda: first_stage(activation_layer=nn.Tanh),
        lambda: first_stage(memory_efficient=False),
        *(partial(lambda n: hooked(first_stage(), n), name) for name in ("body", "body.conv")),
        *(partial(lambda n: hooked(first_stage(), n), name) for name in ("norm", "body.norm")),
        *(partial(lambda n: replaced(first_stage(), n), name) for name in ("body", "body.conv")),
    ],
)
def test_other_stages_do_not(runs, make: Callable[[], DownBlock]) -> None:
    assert_equal_twins(make(), image(2, 1, 8, 8), may_be_plain=True)
    assert not runs


@pytest.mark.parametrize(
    "change",
    [
        {"groups": 3},
        {"padding_mode": "reflect"},
        {"padding": "same"},
        {"dtype": torch.float64},
        {"padding": (3, 1)},
    ],
)
def test_other_convolutions_are_not_taken(change: dict[str, Any]) -> None:
    options = {"kernel_size": 3, "padding": 1} | change
    conv = nn.Conv2d(3, 6, **options).to(memory_format=LAST)
    x = image(2, 3, 8, 8).to(conv.weight.dtype)
    assert stage.order_of_sums(conv, x, nn.MaxPool2d(2)) is None


@rounds_alike
def test_other_images_are_not_taken() -> None:
    conv = nn.Conv2d(3, 8, 3, padding=1).to(memory_format=LAST)
    order = partial(stage.order_of_sums, conv, pool=nn.MaxPool2d(2))
    x = image(2, 3, 8, 8)
    assert order(x) is not None
    assert order(x.contiguous()) is None
    assert order(x[:0]) is None
    assert order(x[..., :1]) is None
    with torch.autocast("cpu"):
        assert order(x) is None
    with availability.switched_off():
        assert order(x) is None


@rounds_alike
@pytest.mark.parametrize("frozen", [False, True])
def test_second_derivatives_are_those_of_the_layers(runs, frozen: bool) -> None:
    block = first_stage(activation_layer=LEAKY).requires_grad_(not frozen)
    found, expected = (_second_derivatives(b) for b in (block, twin_of(block)))
    assert runs
    for own, plain in zip(found, expected, strict=True):
        torch.testing.assert_close(own, plain)


def _second_derivatives(block: nn.Module) -> list[Tensor]:
    x = image(2, 1, 7, 7).requires_grad_()
    (slope,) = torch.autograd.grad(block(x).square().sum(), x, create_graph=True)
    wanted = [x, *(p for p in block.parameters() if p.requires_grad)]
    return list(torch.autograd.grad(slope.square().sum(), wanted))


@rounds_alike
@pytest.mark.parametrize("frozen", [False, True])
def test_many_gradients_at_once(runs, frozen: bool) -> None:
    block = first_stage().requires_grad_(not frozen)
    x = image(2, 1, 6, 6).requires_grad_()
    outputs = block(x)
    grads = torch.stack([image(*outputs.shape, seed=seed) for seed in range(3)])
    wanted = [x, *(p for p in block.parameters() if p.requires_grad)]
    together = torch.autograd.grad(outputs, wanted, grads, is_grads_batched=True, retain_graph=True)
    assert runs
    for i, grad in enumerate(grads):
        for one, all_of_them in zip(
            torch.autograd.grad(outputs, wanted, grad, retain_graph=True), together, strict=True
        ):
            torch.testing.assert_close(all_of_them[i], one)


@rounds_alike
def test_what_is_kept() -> None:
    x = image(4, 1, 28, 28).requires_grad_()
    codes = code_bytes(4 * 32 * 14 * 14)
    block = first_stage()
    assert module_bytes(block, x) == x.nbytes + codes
    assert module_bytes(block.requires_grad_(False), x) == codes


@rounds_alike
def test_the_map_of_a_frozen_stage_is_never_in_memory() -> None:
    block = first_stage().requires_grad_(False)
    x = image(8, 1, 28, 28).requires_grad_()
    map_bytes = 4 * 8 * 32 * 28 * 28
    peak = peak_memory(block, x).peak
    plain = peak_memory(twin_of(block), x).peak
    assert plain > 2 * map_bytes
    assert peak < map_bytes


def test_fake_tensors_have_the_shapes_of_real_ones() -> None:
    block, x = first_stage().requires_grad_(False), image(2, 1, 9, 9)
    real = step(block, x, input_grad=True)
    with FakeTensorMode(allow_non_fake_inputs=True) as fakes:
        fake_x = fakes.from_tensor(x).requires_grad_()
        output = block(fake_x)
        (grad,) = torch.autograd.grad(output.sum(), fake_x)
    assert (output.shape, output.stride()) == (real["output"].shape, real["output"].stride())
    assert (grad.shape, grad.stride()) == (real["grad of x"].shape, real["grad of x"].stride())
