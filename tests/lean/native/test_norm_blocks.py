"""Blocks whose batch norms run by kernels, against their plain twins."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from gaslayers import ConvNormAct, DenseBlock, DepthwiseInceptionBlock, DownBlock
from gaslayers.blocks import TransitionBlock
from gaslayers.lean.modules import register_known
from gaslayers.lean.native.kernels import kernels
from tests.lean.native.maps import LAST
from tests.lean.native.needs import needs_norm_kernels
from tests.lean.twins import twin_of

pytestmark = needs_norm_kernels


def _step(module: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """One step whose gradient comes in channels_last."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    y = module(x)
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)
    y.backward(grad.contiguous(memory_format=LAST))
    grads = {name: parameter.grad for name, parameter in module.named_parameters()}
    return {"y": y.detach(), "x": x.grad, **grads, **dict(module.named_buffers())}


@pytest.fixture
def calls(monkeypatch) -> list[str]:
    """The kernels that were called, in order."""
    called: list[str] = []
    original = type(kernels()).run

    def spy(self, name, *args):
        called.append(name)
        original(self, name, *args)

    monkeypatch.setattr(type(kernels()), "run", spy)
    return called


@register_known
class _Halving(nn.Module):
    def channel_scale(self) -> Tensor:
        return torch.full((8,), 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.channel_scale().view(1, -1, 1, 1)


BLOCKS = {
    "3x3": partial(DenseBlock, 8, 8, num_layers=3),
    "bottleneck": partial(DenseBlock, 8, 8, num_layers=3, bottleneck_factor=2),
    "transition": partial(TransitionBlock, 16),
    "stage": partial(DownBlock, 8, 16),
    "recomputed stage": partial(DownBlock, 8, 16, memory_efficient="recompute"),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", sorted(BLOCKS))
def test_a_block_by_kernels_equals_its_plain_twin_to_the_bit(calls, kind, dtype) -> None:
    torch.manual_seed(0)
    block = BLOCKS[kind](norm_layer=nn.BatchNorm2d).to(dtype).to(memory_format=LAST)
    channels = getattr(block, "in_channels", 8)
    x = torch.randn(4, channels, 6, 8, dtype=dtype).contiguous(memory_format=LAST)
    expected = _step(twin_of(block), x)
    found = _step(block, x)
    assert "measure" in calls
    assert "normalize_backward" in calls
    for name, tensor in found.items():
        if name.endswith("running_var"):  # a rounding more, in float64
            torch.testing.assert_close(tensor, expected[name], rtol=2e-15, atol=1e-16)
        else:
            assert torch.equal(tensor, expected[name]), name


def test_a_constant_in_place_of_a_norm_takes_the_kernels(calls) -> None:
    torch.manual_seed(0)
    block = DenseBlock(8, 8, num_layers=1, norm_layer=lambda _channels: _Halving())
    block = block.to(memory_format=LAST)
    x = torch.randn(4, 8, 6, 8).contiguous(memory_format=LAST)
    expected = _step(twin_of(block), x)
    found = _step(block, x)
    assert calls == ["normalize", "normalize", "normalize_backward"]
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


TOLERANCES = {torch.float32: 1e-6, torch.float64: 1e-13}


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_a_norm_whose_gradient_is_a_slice_equals_pytorchs_to_rounding(calls, dtype) -> None:
    torch.manual_seed(0)
    separable = partial(
        DepthwiseInceptionBlock,
        separable_layer=partial(
            ConvNormAct, norm_layer=nn.BatchNorm2d, activation_layer=nn.ReLU, order="act_norm"
        ),
    )
    block = DenseBlock(16, 16, num_layers=2, layer=separable, norm_layer=nn.BatchNorm2d)
    block = block.to(dtype).to(memory_format=LAST)
    x = torch.randn(4, 16, 6, 8, dtype=dtype).contiguous(memory_format=LAST)
    expected = _step(twin_of(block), x)
    found = _step(block, x)
    assert "normalize_backward" in calls
    for name, tensor in expected.items():
        size = max(tensor.abs().max().item(), 1e-3 * expected["x"].abs().max().item())
        torch.testing.assert_close(
            found[name], tensor, rtol=0, atol=TOLERANCES[dtype] * size, msg=name
        )


@pytest.mark.parametrize("kind", sorted(BLOCKS))
def test_second_derivatives_and_batches_of_gradients(kind) -> None:
    torch.manual_seed(0)
    block = BLOCKS[kind](norm_layer=nn.BatchNorm2d, activation_layer=partial(nn.LeakyReLU, 0.2))
    block = block.double().to(memory_format=LAST)
    channels = getattr(block, "in_channels", 8)
    x = torch.randn(2, channels, 2, 4, dtype=torch.float64).contiguous(memory_format=LAST)
    x.requires_grad_()
    assert torch.autograd.gradgradcheck(block, (x,), fast_mode=True)
    y, inputs = block(x), [x, *block.parameters()]
    grads = torch.randn(3, *y.shape, dtype=y.dtype)
    batched = torch.autograd.grad(y, inputs, grads, is_grads_batched=True, retain_graph=True)
    for i, grad in enumerate(grads):
        singly = torch.autograd.grad(y, inputs, grad, retain_graph=True)
        torch.testing.assert_close([several[i] for several in batched], list(singly))


def test_a_hooked_or_replaced_norm_is_called_itself(calls) -> None:
    x = torch.randn(2, 8, 4, 4).contiguous(memory_format=LAST)
    stage = DownBlock(8, 8).to(memory_format=LAST)
    stage(x)
    assert "measure" in calls
    hooked, replaced = copy.deepcopy(stage), copy.deepcopy(stage)
    seen = []
    hooked.norm.register_forward_hook(lambda *_: seen.append("hook"))
    replaced.norm.forward = lambda y: (seen.append("forward"), y)[1]
    frozen = copy.deepcopy(stage)
    frozen.norm.eval()
    del calls[:]
    for other in (hooked, replaced, frozen):
        other(x)
    assert seen == ["hook", "forward"]
    assert "measure" not in calls


def test_kernels_stay_on_the_cpu_where_another_device_is_the_default() -> None:
    stage = DownBlock(8, 8).to(memory_format=LAST)
    x = torch.randn(2, 8, 4, 4).contiguous(memory_format=LAST)
    twin = twin_of(stage)
    with torch.device("meta"):
        assert torch.equal(stage(x), twin(x))


def test_what_is_compiled_is_left_to_the_compiler(calls) -> None:
    torch.manual_seed(0)
    stage = DownBlock(8, 16).to(memory_format=LAST)
    x = torch.randn(4, 8, 6, 8).contiguous(memory_format=LAST)
    expected = _step(twin_of(stage), x)
    found = _step(torch.compile(stage, fullgraph=True, backend="aot_eager"), x)
    assert calls == []
    for name, tensor in expected.items():
        torch.testing.assert_close(found[f"_orig_mod.{name}" if "." in name else name], tensor)


@pytest.mark.parametrize("memory_efficient", [True, "recompute"])
@pytest.mark.parametrize("pool_layer", [nn.MaxPool2d, nn.AvgPool2d])
def test_maps_that_come_back_in_another_memory_format(memory_efficient, pool_layer) -> None:
    torch.manual_seed(0)
    stage = DownBlock(8, 16, pool_layer=pool_layer, memory_efficient=memory_efficient)
    stage = stage.to(memory_format=LAST)
    x = torch.randn(4, 8, 6, 8).contiguous(memory_format=LAST)
    expected = _step(copy.deepcopy(stage), x)
    with torch.autograd.graph.saved_tensors_hooks(Tensor.contiguous, lambda tensor: tensor):
        found = _step(stage, x)
    torch.testing.assert_close(found, expected)
