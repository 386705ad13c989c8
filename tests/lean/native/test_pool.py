"""The pooling kernels against PyTorch's operators, to the bit."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from gaslayers import DownBlock
from gaslayers.lean.fused.pool.choice import code_pool
from gaslayers.lean.native import availability, norm_choice, pool, pool_choice
from gaslayers.lean.native.compiling import library_path
from gaslayers.lean.native.kernels import Kernels
from tests.lean.native.needs import CAPABILITIES, HERE, needs_kernels
from tests.lean.twins import assert_equal_twins, code_bytes, kept_bytes, module_bytes

NAN, INFINITY = float("nan"), float("inf")
LAST, FIRST = torch.channels_last, torch.contiguous_format
LAYOUTS = (LAST, FIRST)

pytestmark = needs_kernels


def plainly(x: Tensor, slope: float, ceil_mode: bool) -> Tensor:
    """Activation and pooling as the plain composition runs them."""
    if slope != 1:
        x = F.relu(x) if slope == 0 else F.leaky_relu(x, slope)
    return F.max_pool2d(x, 2, ceil_mode=ceil_mode)


@given(
    shape=st.tuples(st.integers(0, 3), st.integers(1, 70), st.integers(2, 9), st.integers(2, 9)),
    values=st.integers(1, 5),  # few, so that most windows have several largest ones
    special=st.sampled_from([None, NAN, INFINITY, -INFINITY]),
    slope=st.sampled_from([0.0, 0.2, 1.0]),
    ceil_mode=st.booleans(),
    layout=st.sampled_from(LAYOUTS),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    capability=st.sampled_from(CAPABILITIES),
    seed=st.integers(0, 1000),
)
@example((2, 33, 5, 7), 4, NAN, 0.2, True, LAST, torch.float32, HERE, 0)
@example((2, 33, 5, 7), 4, -INFINITY, 0.2, True, FIRST, torch.float32, HERE, 0)
@example((1, 3, 7, 4100), 4, None, 0.0, False, FIRST, torch.float64, HERE, 0)
@example((1, 3, 7, 4099), 4, NAN, 0.0, True, FIRST, torch.float32, HERE, 0)
@example((1, 40, 5, 101), 4, NAN, 0.2, True, LAST, torch.float32, HERE, 0)
@example((2, 1, 6, 8), 4, None, 0.0, True, LAST, torch.float32, HERE, 0)
def test_map_and_gradient_are_those_of_pytorch(
    shape, values, special, slope, ceil_mode, layout, dtype, capability, seed
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(-2, values - 2, shape, generator=generator).to(dtype)
    if special is not None:
        x[torch.rand(shape, generator=generator) < 0.3] = special
    x = x.contiguous(memory_format=layout).requires_grad_()
    expected = plainly(x, slope, ceil_mode)
    grad = torch.randn(expected.shape, generator=generator, dtype=dtype)
    grad[torch.rand(expected.shape, generator=generator) < 0.1] = INFINITY
    with mock.patch.object(pool, "kernels", return_value=Kernels(library_path(capability))):
        pooled, codes = pool.pool(x.detach(), slope, layout, ceil_mode=ceil_mode)
        found = pool.unpool(grad, codes, x.shape, slope, layout)
    torch.testing.assert_close(pooled, expected.detach(), rtol=0, atol=0, equal_nan=True)
    assert pooled.is_contiguous(memory_format=layout)
    (expected_grad,) = torch.autograd.grad(expected, x, grad)
    # By operators that can be differentiated, from the same codes.
    way = code_pool(x.detach(), slope, 2, ceil_mode=ceil_mode)
    with torch.enable_grad():
        by_operators = way.backward(grad, (codes,))
    torch.testing.assert_close(by_operators, expected_grad, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(found, expected_grad, rtol=0, atol=0, equal_nan=True)
    assert found.is_contiguous(memory_format=layout)


def _stage(
    activation_layer=nn.ReLU,
    *,
    ceil_mode: bool = False,
    layout: torch.memory_format = LAST,
    **options,
) -> DownBlock:
    stage = DownBlock(
        3,
        8,
        activation_layer=activation_layer,
        pool_layer=lambda k: nn.MaxPool2d(k, ceil_mode=ceil_mode),
        **options,
    )
    return stage.to(memory_format=layout)


def _image(
    *shape: int, dtype: torch.dtype = torch.float32, layout: torch.memory_format = LAST
) -> Tensor:
    return torch.randn(shape, dtype=dtype).contiguous(memory_format=layout)


@pytest.fixture
def calls(monkeypatch) -> list[str]:
    """The kernels that were called, in order."""
    called: list[str] = []
    for kernel in (pool.pool, pool.unpool):

        def spy(*args, kernel=kernel, **options):
            called.append(kernel.__name__)
            return kernel(*args, **options)

        monkeypatch.setattr(pool, kernel.__name__, spy)
    return called


@pytest.mark.parametrize("activation_layer", [nn.ReLU, lambda: nn.LeakyReLU(0.2), None])
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("memory_efficient", [True, "recompute"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_stage_by_kernels_equals_its_plain_twin(
    calls, activation_layer, ceil_mode, memory_efficient, layout
) -> None:
    stage = _stage(
        activation_layer, ceil_mode=ceil_mode, layout=layout, memory_efficient=memory_efficient
    )
    x = _image(4, 3, 9, 11, layout=layout)
    kept = module_bytes(stage, x)
    with availability.switched_off():
        by_operators = module_bytes(stage, x)
    cells = stage(x).numel()
    a_byte = {nn.ReLU: 3, nn.LeakyReLU: 2, nn.Identity: 4}[type(stage.activation)]
    assert by_operators - kept == cells - code_bytes(cells, a_byte=a_byte)
    assert_equal_twins(stage, x)
    # In channels_last the norm's kernels, where they run, pool as well.
    by_norm = layout == LAST and norm_choice.take(x, ())
    # The first two for the bytes and the cells.
    assert calls == ([] if by_norm else ["pool", "pool", "pool", "unpool"])


def test_second_derivatives_come_from_the_kernels_codes(calls) -> None:
    stage = _stage(lambda: nn.LeakyReLU(0.2), ceil_mode=True, norm_layer=None).double()
    x = _image(2, 3, 5, 5, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradgradcheck(stage, (x,), fast_mode=True)
    assert "pool" in calls
    assert "unpool" not in calls


def test_a_batch_of_gradients_is_left_to_pytorch(calls) -> None:
    stage, x = _stage(norm_layer=None), _image(2, 3, 4, 4).requires_grad_()
    y = stage(x)
    grads = torch.stack([torch.ones_like(y), torch.randn_like(y)])
    (batched,) = torch.autograd.grad(y, x, grads, is_grads_batched=True, retain_graph=True)
    singly = [torch.autograd.grad(y, x, grad, retain_graph=True)[0] for grad in grads]
    torch.testing.assert_close(batched, torch.stack(singly))
    assert calls == ["pool", "unpool", "unpool"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_the_kernels_do_not_take(layout) -> None:
    x = torch.zeros(1, 3, 4, 4).contiguous(memory_format=layout)
    assert pool_choice.suits(x, 2, layout)
    assert not pool_choice.suits(x, 3, layout)
    assert not pool_choice.suits(x[:, :, :, ::2], 2, layout)
    assert not pool_choice.suits(x.bfloat16(), 2, layout)
    assert not pool_choice.suits(x.to("meta"), 2, layout)
    assert not pool_choice.suits(x.as_subclass(type("Tagged", (Tensor,), {})), 2, layout)
    with availability.switched_off():
        assert not pool_choice.suits(x, 2, layout)
    assert pool_choice.suits(x, 2, layout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_map_smaller_than_a_window_is_refused_as_by_pytorch(layout) -> None:
    x = torch.zeros(1, 3, 4, 1).contiguous(memory_format=layout)
    with pytest.raises(RuntimeError, match="Output size is too small"):
        code_pool(x, 0.0, 2, ceil_mode=False).forward(x)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_map_without_channels_is_pooled_to_one(layout) -> None:
    x = torch.zeros(1, 0, 4, 4).contiguous(memory_format=layout)
    assert code_pool(x, 0.0, 2, ceil_mode=False).forward(x)[0].shape == (1, 0, 2, 2)


def test_maps_that_are_neither_contiguous_nor_in_channels_last() -> None:
    stage = DownBlock(3, 3, block=lambda _c, _n: nn.Identity(), norm_layer=None)
    x = torch.randn(2, 3, 8, 6).transpose(2, 3)
    assert torch.equal(stage(x), plainly(x, 0.0, ceil_mode=False))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_fake_tensors_have_the_shapes_and_bytes_of_real_ones(layout) -> None:
    x = _image(2, 3, 5, 7, layout=layout)
    with FakeTensorMode() as fakes:
        fake = fakes.from_tensor(x)
        assert pool_choice.suits(fake, 2, layout)
        fake_pooled, fake_codes = pool.pool(fake, 0.0, layout, ceil_mode=True)
        fake_grad = pool.unpool(fake_pooled, fake_codes, fake.shape, 0.0, layout)
    pooled, codes = pool.pool(x, 0.0, layout, ceil_mode=True)
    grad = pool.unpool(pooled, codes, x.shape, 0.0, layout)
    for made, real in ((fake_pooled, pooled), (fake_codes, codes), (fake_grad, grad)):
        assert (made.shape, made.stride(), made.dtype) == (real.shape, real.stride(), real.dtype)


@pytest.mark.parametrize(
    ("activation_layer", "a_byte"), [(nn.ReLU, 3), (lambda: nn.LeakyReLU(0.2), 2), (None, 4)]
)
def test_a_frozen_stage_keeps_several_cells_a_byte(activation_layer, a_byte) -> None:
    stage = _stage(activation_layer, norm_layer=None).requires_grad_(False)
    x = _image(4, 3, 10, 8).requires_grad_()
    left_out = list(stage.parameters())
    assert kept_bytes(lambda: stage(x), left_out) == -(-4 * 8 * 5 * 4 // a_byte)
