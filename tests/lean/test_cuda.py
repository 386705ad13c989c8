"""On CUDA, lean is plain: outputs, gradients and buffers, in float64, where no TF32 rounds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gaslayers import (
    DenseBlock,
    DepthwiseInceptionBlock,
    DownBlock,
    InceptionBlock,
    TransitionBlock,
    saved_bytes,
)
from gaslayers.models import CASES, VARIANTS, build_discriminator
from tests.lean.twins import twin_of

pytestmark = pytest.mark.cuda

DEVICE = "cuda"
# Sums over other orders, in float64; kernels that add atomically give others at each run. A bias in
# front of a norm has no gradient but rounding.
TOLERANCE = {"rtol": 1e-9, "atol": 1e-9}
LAYOUTS = (torch.contiguous_format, torch.channels_last)

BLOCKS = {
    "dense": lambda: DenseBlock(8, 4),
    "dense of inceptions": lambda: DenseBlock(8, 4, layer=InceptionBlock),
    "depthwise inception": lambda: DepthwiseInceptionBlock(
        8, 16, norm_layer=nn.BatchNorm2d, activation_layer=nn.ReLU
    ),
    "inception": lambda: InceptionBlock(8, 16),
    "stage": lambda: DownBlock(8, 16),
    "stage, recomputed": lambda: DownBlock(8, 16, memory_efficient="recompute"),
    "stage on an image": lambda: DownBlock(8, 16, norm_layer=None),
    "transition": lambda: TransitionBlock(8),
}


def run(module: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """One forward and backward pass; everything that comes of it, by name."""
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    output = module(x)
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype, device=DEVICE)
    (output * weights.view_as(output)).sum().backward()
    gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    return {"output": output, "input": x.grad} | gradients | dict(module.named_buffers())


def assert_lean_is_plain(lean: nn.Module, x: Tensor) -> None:
    expected, found = run(twin_of(lean), x), run(lean, x)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(
            found[name], tensor, **TOLERANCE, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("is_frozen", [False, True])
@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize("input_layout", LAYOUTS)
@pytest.mark.parametrize("weight_layout", LAYOUTS)
@pytest.mark.parametrize("name", BLOCKS)
def test_block_runs_lean_as_it_runs_plain(
    name, weight_layout, input_layout, is_training, is_frozen
):
    block = BLOCKS[name]().double().to(DEVICE).to(memory_format=weight_layout)
    block.train(is_training).requires_grad_(not is_frozen)
    x = torch.randn(4, 8, 12, 12, dtype=torch.float64).to(DEVICE).to(memory_format=input_layout)
    assert_lean_is_plain(block, x)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("case", CASES)
def test_discriminator_runs_lean_as_it_runs_plain_and_keeps_less(case, variant):
    network = build_discriminator(case, variant=variant).double().to(DEVICE)
    x = torch.rand(4, 1, 28, 28, dtype=torch.float64).to(DEVICE)
    assert saved_bytes(network, x) < saved_bytes(twin_of(network), x)
    assert_lean_is_plain(network, x)


def test_autocast_runs_lean_as_it_runs_plain():
    block = DownBlock(8, 16, memory_efficient="recompute").to(DEVICE)
    x = torch.randn(4, 8, 12, 12).to(DEVICE)
    found = []
    for module in (twin_of(block), block):
        own = x.clone().requires_grad_()
        with torch.autocast(DEVICE, dtype=torch.bfloat16):
            output = module(own)
        output.float().square().mean().backward()
        found.append((output.detach(), own.grad))
    (output, gradient), (lean_output, lean_gradient) = found
    assert lean_output.dtype == output.dtype
    torch.testing.assert_close(lean_output, output)
    torch.testing.assert_close(lean_gradient, gradient)


def test_kept_bytes_are_those_that_the_device_holds():
    block = DownBlock(8, 16).to(DEVICE)
    x = torch.randn(16, 8, 64, 64, device=DEVICE)
    block(x)  # what is made once, such as workspaces, is there
    before = torch.cuda.memory_allocated()
    output = block(x)
    held = torch.cuda.memory_allocated() - before
    kept = saved_bytes(block, x) - x.numel() * x.element_size()
    # The output itself, and blocks of 512 bytes for each of a few tensors.
    assert 0 <= held - kept - output.numel() * output.element_size() < 16 * 512
