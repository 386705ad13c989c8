"""Inputs that people met, each a plain use of the library.

What could end the process runs in one of its own. The kinds behind most of them are properties
over drawn blocks in `tests/lean`: layouts, contexts, foreign layers, saved tensors, small inputs.
"""

from __future__ import annotations

import copy
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import Tensor, nn

import gaslayers
from gaslayers.models import CASES, VARIANTS, build_discriminator
from tests.blocks.catalogue import CATALOGUE
from tests.lean.compositions import compose
from tests.lean.twins import twin_of

LAST = torch.channels_last


def run_alone(code: str) -> list[str]:
    """The lines that a process of its own prints; it has to end well."""
    setting = (
        "import itertools, torch, gaslayers\nfrom torch import nn\n"
        "LAST = torch.channels_last\nLAYOUTS = torch.contiguous_format, LAST\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", setting + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    return done.stdout.splitlines()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("case", CASES)
def test_a_case_in_channels_last_scores_what_a_generator_makes(case: str, variant: str) -> None:
    network = build_discriminator(case, variant=variant).to(memory_format=LAST)
    twin = twin_of(network)
    # An image of one channel has the strides of a contiguous one where it was made so.
    for image in (torch.rand(4, 1, 28, 28), torch.rand(4, 28, 28, 1).permute(0, 3, 1, 2)):
        torch.testing.assert_close(network(image), compose(twin)(image), rtol=1e-3, atol=1e-4)
    for found, expected in zip(network.buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_a_norm_of_another_size_is_refused() -> None:
    printed = run_alone("""
        for layout, size, mode, training in itertools.product(
            LAYOUTS, (8, 48, 128), (True, "recompute"), (True, False)
        ):
            stage = gaslayers.DownBlock(
                3, 64, norm_layer=lambda _: nn.BatchNorm2d(size), memory_efficient=mode
            )
            stage = stage.to(memory_format=layout).train(training)
            x = torch.randn(2, 3, 16, 16).to(memory_format=layout).requires_grad_()
            try:
                stage(x)
                print("accepted", layout, size, mode, training)
            except (RuntimeError, ValueError):
                print("refused")
        """)
    assert printed == ["refused"] * 24


@pytest.mark.parametrize("part", ["weight", "bias", "running_mean", "running_var"])
def test_one_tensor_of_another_size_in_a_norm_is_refused(part: str) -> None:
    printed = run_alone(f"""
        for mode in (True, "recompute"):
            for block in (
                gaslayers.DownBlock(16, 32, memory_efficient=mode),
                gaslayers.DenseBlock(32, 8, memory_efficient=mode),
                gaslayers.TransitionBlock(32, memory_efficient=mode),
                gaslayers.DenseBlock(32, 8, bottleneck_factor=2, memory_efficient=mode),
            ):
                block.to(memory_format=LAST)
                norm = [part for part in block.modules() if isinstance(part, nn.BatchNorm2d)][-1]
                setattr(norm, {part!r}, type(getattr(norm, {part!r}))(torch.ones(8)))
                x = torch.randn(2, block.in_channels, 8, 8).to(memory_format=LAST).requires_grad_()
                try:
                    block(x).sum().backward()
                    print("accepted", type(block), mode)
                except (RuntimeError, ValueError):
                    print("refused")
        """)
    assert printed == ["refused"] * 8


def test_a_norm_moved_to_another_dtype_before_backward_is_refused() -> None:
    printed = run_alone("""
        for mode in (True, "recompute"):
            for dtype in (torch.float16, torch.bfloat16, torch.float64):
                stage = gaslayers.DownBlock(16, 32, memory_efficient=mode).to(memory_format=LAST)
                y = stage(torch.randn(2, 16, 8, 8).to(memory_format=LAST))
                stage.norm.to(dtype)
                try:
                    y.sum().backward()
                    print("accepted", mode, dtype)
                except RuntimeError:
                    print("refused")
        """)
    assert printed == ["refused"] * 6


def test_a_batch_without_an_image_passes_in_evaluation() -> None:
    printed = run_alone("""
        blocks = (
            gaslayers.DownBlock, gaslayers.DenseBlock, gaslayers.TransitionBlock,
            gaslayers.InceptionBlock, gaslayers.DepthwiseInceptionBlock,
        )
        for block in blocks:
            for mode in (True, "recompute"):
                empty = torch.zeros(0, 5, 4, 4, requires_grad=True)
                block(5, 4, memory_efficient=mode).eval()(empty).sum().backward()
                print("passed")
        """)
    assert printed == ["passed"] * 10


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("case", CASES)
def test_spectral_norm_on_every_convolution_of_a_case_as_most_repositories_put_it(
    case: str, variant: str
) -> None:
    network = build_discriminator(case, variant=variant)
    for part in list(network.modules()):
        if isinstance(part, nn.Conv2d):
            nn.utils.spectral_norm(part)
    twin = twin_of(network)
    real, fake = torch.rand(2, 2, 1, 28, 28)
    for module in (network, twin):
        (module(real).mean() - module(fake).mean()).backward()
    for found, expected in zip(network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-3, atol=1e-5)


def weights_init_of_dcgan(module: nn.Module) -> None:
    """As in the DCGAN examples and most of PyTorch-GAN: by a part of the class's name."""
    name = type(module).__name__
    if name.find("Conv") != -1:
        nn.init.normal_(module.weight.data, 0.0, 0.02)
    elif name.find("BatchNorm") != -1:
        nn.init.normal_(module.weight.data, 1.0, 0.02)
        nn.init.constant_(module.bias.data, 0)


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_weights_init_of_dcgan_draws_every_convolution(name: str) -> None:
    block = CATALOGUE[name].factory(in_channels=3)
    before = copy.deepcopy(block)
    block.apply(weights_init_of_dcgan)
    for part, old in zip(block.modules(), before.modules(), strict=True):
        if isinstance(part, nn.Conv2d):
            assert not torch.equal(part.weight, old.weight)


@pytest.mark.parametrize("case", CASES)
def test_the_weights_init_of_dcgan_draws_a_case(case: str) -> None:
    build_discriminator(case, variant="as_described").apply(weights_init_of_dcgan)


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("name", CATALOGUE)
def test_without_memory_efficient_a_block_keeps_what_the_composition_keeps(
    name: str, frozen: bool
) -> None:
    """Where only the outermost block is told, as people tell it."""
    factory = CATALOGUE[name].factory
    block = factory(in_channels=4, memory_efficient=False).requires_grad_(not frozen)
    composition = compose(copy.deepcopy(block))
    # Of an odd size, on which every kernel reads the padding that the composition writes down.
    x = torch.randn(2, 4, 13, 13, requires_grad=True)
    kept = [gaslayers.saved_bytes(module, x) for module in (block, composition)]
    assert kept[0] == kept[1]


def _calls_of_replaced_forwards(block: nn.Module, x: Tensor) -> list[str]:
    calls: list[str] = []
    for name, part in block.named_modules():
        if isinstance(part, nn.Conv2d):
            forward = part.forward
            part.forward = lambda x, f=forward, n=name: (calls.append(n), f(x))[1]
    block(x)
    return calls


@pytest.mark.parametrize("name", CATALOGUE)
def test_replaced_forwards_of_all_convolutions_run(name: str) -> None:
    block = CATALOGUE[name].factory(in_channels=4)
    names = [n for n, part in block.named_modules() if isinstance(part, nn.Conv2d)]
    x = torch.randn(2, 4, 8, 8, requires_grad=True)
    assert sorted(_calls_of_replaced_forwards(block, x)) == sorted(names)
