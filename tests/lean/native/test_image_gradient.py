"""The kernel for an image's gradient against PyTorch's operator, to the bit."""

from __future__ import annotations

from functools import partial
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from gaslayers import ConvNormAct, InceptionBlock
from gaslayers.lean.convolution import ConvolutionGeometry
from gaslayers.lean.fused.frozen import input_gradient
from gaslayers.lean.native import availability, image_gradient
from gaslayers.lean.native.compiling import library_path
from gaslayers.lean.native.kernels import Kernels
from tests.lean.native.maps import LAST, slice_of_wider
from tests.lean.native.needs import CAPABILITIES, needs_kernels, rounds_alike
from tests.lean.twins import twin_of

PLAIN = ConvolutionGeometry((1, 1), (1, 1), (1, 1), 1)

pytestmark = needs_kernels


def _last(*shape: int, generator: torch.Generator | None = None) -> Tensor:
    """Random, in channels_last also where a single channel does not tell."""
    count, channels, height, width = shape
    return torch.randn(count, height, width, channels, generator=generator).permute(0, 3, 1, 2)


@settings(max_examples=60)
@given(
    count=st.integers(1, 3),
    channels=st.integers(1, 4),
    out_channels=st.sampled_from([1, 7, 8, 20, 33]),
    size=st.tuples(st.integers(1, 40), st.integers(1, 70)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    padding=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    sliced=st.booleans(),
    capability=st.sampled_from(CAPABILITIES),
    seed=st.integers(0, 1000),
)
def test_the_gradient_is_that_of_a_convolution(
    count, channels, out_channels, size, kernel, padding, sliced, capability, seed
) -> None:
    padding = tuple(min(p, k - 1) for p, k in zip(padding, kernel, strict=True))
    rows, columns = (s + 2 * p - k + 1 for s, p, k in zip(size, padding, kernel, strict=True))
    assume(rows > 0 and columns > 0)
    # Of whole numbers, so that sums are exact in every order.
    generator = torch.Generator().manual_seed(seed)
    grad = _last(count, out_channels, rows, columns, generator=generator).mul_(4).round_()
    weight = torch.randint(-9, 9, (out_channels, channels, *kernel), generator=generator).float()
    shape = (count, channels, *size)
    x = torch.zeros(shape, requires_grad=True)
    (expected,) = torch.autograd.grad(F.conv2d(x, weight, padding=padding), x, grad)
    if sliced:
        grad = slice_of_wider(grad)
    kernels = Kernels(library_path(capability))
    with mock.patch.object(image_gradient, "kernels", return_value=kernels):
        found = image_gradient.run(grad, weight, shape, padding)
    assert found.is_contiguous(memory_format=LAST)
    assert torch.equal(found, expected)


_Bare = partial(ConvNormAct, norm_layer=None, activation_layer=None)


def _frozen(block: nn.Module) -> nn.Module:
    return block.to(memory_format=LAST).requires_grad_(False)


def _image_gradient(block: nn.Module, x: Tensor) -> Tensor:
    """As in a G step: the gradient comes in channels_last, as later layers give it."""
    x = x.detach().requires_grad_()
    y = block(x)
    grad = _last(*y.shape, generator=torch.Generator().manual_seed(1))
    return torch.autograd.grad(y, x, grad)[0]


@pytest.fixture
def calls(monkeypatch) -> list[tuple[int, ...]]:
    """Shapes of the images of which the kernel found the gradient."""
    called: list[tuple[int, ...]] = []
    run = image_gradient.run

    def spy(grad, weight, shape, padding):
        called.append(tuple(shape))
        return run(grad, weight, shape, padding)

    monkeypatch.setattr(image_gradient, "run", spy)
    input_gradient._is_exact.cache_clear()
    return called


@rounds_alike
@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize(("out_channels", "kernel_size"), [(32, 3), (64, 3), (20, 5), (128, 3)])
def test_frozen_convolutions_of_images_run_it_to_the_bit(
    calls, in_channels: int, out_channels: int, kernel_size: int
) -> None:
    block = _frozen(_Bare(in_channels, out_channels, kernel_size=kernel_size))
    x = _last(5, in_channels, 28, 28)
    assert torch.equal(_image_gradient(block, x), _image_gradient(twin_of(block), x))
    assert calls == [tuple(x.shape)] * 2  # once to see whether it is exact


def test_frozen_branches_that_read_an_image_equal_plain(calls) -> None:
    block = _frozen(InceptionBlock(1, 16, bottleneck=False))
    x = _last(1, 1, 5, 5)
    assert block.execution.path != "plain"
    assert torch.equal(_image_gradient(block, x), _image_gradient(twin_of(block), x))
    assert calls


def test_where_pytorch_rounds_otherwise_its_operator_runs(monkeypatch) -> None:
    block, x = _frozen(_Bare(1, 8)), _last(2, 1, 6, 6)
    run = image_gradient.run
    monkeypatch.setattr(image_gradient, "run", lambda *arguments: run(*arguments) * (1 + 2**-20))
    input_gradient._is_exact.cache_clear()
    assert torch.equal(_image_gradient(block, x), _image_gradient(twin_of(block), x))
    input_gradient._is_exact.cache_clear()


def test_a_gradient_that_is_to_be_differentiated_is_found_by_pytorch(calls) -> None:
    block, x = _frozen(_Bare(1, 8)), _last(2, 1, 6, 6).requires_grad_()
    (grad,) = torch.autograd.grad(block(x).square().sum(), x, create_graph=True)
    assert not calls
    (found,) = torch.autograd.grad(grad.square().sum(), x)
    (grad,) = torch.autograd.grad(twin_of(block)(x).square().sum(), x, create_graph=True)
    (expected,) = torch.autograd.grad(grad.square().sum(), x)
    torch.testing.assert_close(found, expected)


def test_what_the_kernel_does_not_take() -> None:
    grad, weight, shape = _last(2, 8, 6, 6), nn.Parameter(torch.randn(8, 1, 3, 3)), (2, 1, 6, 6)
    suits = image_gradient.suits
    assert suits(grad, weight, shape, PLAIN)
    assert not suits(grad, weight, (2, 5, 6, 6), PLAIN)
    assert not suits(grad, weight[..., :1, :1], shape, PLAIN)
    assert not suits(grad.contiguous(), weight, shape, PLAIN)
    assert not suits(grad.double(), weight.double(), shape, PLAIN)
    assert not suits(grad, weight.double(), shape, PLAIN)
    assert not suits(grad[:0], weight, shape, PLAIN)
    assert not suits(grad, weight, shape, ConvolutionGeometry((2, 2), (1, 1), (1, 1), 1))
    assert not suits(grad, weight, shape, ConvolutionGeometry((1, 1), (3, 1), (1, 1), 1))
    assert not suits(grad, weight, shape, ConvolutionGeometry((1, 1), (1, 1), (2, 2), 1))
    assert not suits(grad, weight, shape, ConvolutionGeometry((1, 1), (1, 1), (1, 1), 8))
    with availability.switched_off():
        assert not suits(grad, weight, shape, PLAIN)


def test_fake_tensors_have_the_shapes_of_real_ones() -> None:
    grad, weight, shape = _last(2, 8, 6, 6), torch.randn(8, 3, 3, 3), (2, 3, 6, 6)
    with FakeTensorMode() as fakes:
        fake = input_gradient.input_gradient(
            fakes.from_tensor(grad), fakes.from_tensor(weight), shape, (108, 1, 18, 3), PLAIN
        )
    real = input_gradient.input_gradient(grad, weight, shape, (108, 1, 18, 3), PLAIN)
    assert (fake.shape, fake.stride(), fake.dtype) == (real.shape, real.stride(), real.dtype)
