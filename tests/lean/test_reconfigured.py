"""Layers that were set up otherwise than by their constructor, before or after the forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn

from gaslayers import DenseBlock, DownBlock, InceptionBlock, TransitionBlock
from gaslayers.lean.modules import reason_against_replacing
from tests.lean.outcomes import Results, assert_as_plain, blocks, draws, gradients, step

DRAWS = draws(25)
SHAPE = (2, 4, 9, 9)
"""Odd sizes: with even ones PyTorch 2.14 writes past the end of memory in the backward pass of a
1x1 convolution of few channels with stride 2 in channels_last."""


def inner(module: nn.Module, *kinds: type[nn.Module]) -> list[nn.Module]:
    return [part for part in module.modules() if isinstance(part, kinds)]


def with_zeros(found: Results, x: Tensor, owner: nn.Module) -> Results:
    """A second derivative that is zero is there as zeros, as rounding, or not at all."""
    zeros = {name: torch.zeros_like(p) for name, p in owner.named_parameters()}
    return {**zeros, "x": torch.zeros_like(x), **found}


def _doubled(part: nn.Module, x: Tensor) -> Tensor:
    return 2 * part.forward(x)


def _another_call(owner: nn.Module) -> None:
    for part in inner(owner, nn.ReLU, nn.LeakyReLU, nn.Identity, nn.Conv2d):
        part._call_impl = partial(_doubled, part)


def _another_check(owner: nn.Module) -> None:
    for norm in inner(owner, nn.BatchNorm2d):
        norm._check_input_dim = _refuse


def _refuse(_: Tensor) -> None:
    raise ValueError("not this one")


def _of_norms(change: Callable[[nn.Module], object]) -> Callable[[nn.Module], None]:
    def run(owner: nn.Module) -> None:
        for norm in inner(owner, nn.BatchNorm2d):
            if norm.running_mean is not None:
                change(norm)

    return run


def _of_convolutions(change: Callable[[nn.Module], object]) -> Callable[[nn.Module], None]:
    def run(owner: nn.Module) -> None:
        for conv in inner(owner, nn.Conv2d):
            change(conv)

    return run


def _smaller_kernel(conv: nn.Module) -> None:
    if conv.kernel_size == (3, 3):
        conv.weight = nn.Parameter(conv.weight.detach()[:, :, :1, :1].clone())


BEFORE = {
    "another call": _another_call,
    "another check": _another_check,
    "eps of zero": _of_norms(lambda n: setattr(n, "eps", 0.0)),
    "negative eps": _of_norms(lambda n: setattr(n, "eps", -1.0)),
    "statistics that ask for a gradient": _of_norms(lambda n: n.running_mean.requires_grad_()),
    "a statistic of another dtype": _of_norms(
        lambda n: setattr(n, "running_mean", n.running_mean.to(torch.float16))
    ),
    "padding in one number": _of_convolutions(
        lambda c: setattr(c, "padding", c.padding if isinstance(c.padding, str) else c.padding[0])
    ),
    "a stride in one number": _of_convolutions(lambda c: setattr(c, "stride", c.stride[0])),
    "no weight": _of_convolutions(lambda c: setattr(c, "weight", None)),
    "no padding": _of_convolutions(lambda c: setattr(c, "padding", (0, 0))),
    "a smaller kernel": _of_convolutions(_smaller_kernel),
}


@pytest.mark.parametrize("change", BEFORE)
@DRAWS
@given(drawn=blocks())
def test_what_was_set_before_the_forward_pass_counts_as_in_plain(change: str, drawn) -> None:
    def act(module: nn.Module, owner: nn.Module) -> Results:
        BEFORE[change](owner)
        return step(module, owner, drawn.input(shape=SHAPE))

    assert_as_plain(drawn.block, act)


def _reconfigure(owner: nn.Module) -> None:
    for conv in inner(owner, nn.Conv2d):
        conv.padding, conv.stride, conv.dilation = (0, 0), (1, 1), (1, 1)


def _other_layers(owner: nn.Module) -> None:
    for part in list(owner.modules()):
        for name, child in part.named_children():
            if isinstance(child, nn.ReLU | nn.LeakyReLU | nn.Identity):
                setattr(part, name, nn.Sigmoid())


def _other_numbers(owner: nn.Module) -> None:
    for norm in inner(owner, nn.BatchNorm2d):
        norm.eps, norm.momentum = 0.5, 0.9
    for activation in inner(owner, nn.LeakyReLU):
        activation.negative_slope = 0.7


AFTER = {
    "geometry": _reconfigure,
    "layers": _other_layers,
    "numbers": _other_numbers,
}


@pytest.mark.parametrize("change", AFTER)
@DRAWS
@given(drawn=blocks())
def test_what_is_set_behind_the_forward_pass_is_not_read(change: str, drawn) -> None:
    def act(module: nn.Module, owner: nn.Module) -> Results:
        x = drawn.input(shape=SHAPE)
        y = module(x)
        AFTER[change](owner)
        return gradients(y, x, owner)

    assert_as_plain(drawn.block, act)


@pytest.mark.parametrize("change", AFTER)
@DRAWS
@given(drawn=blocks(dtypes=(torch.float64,)))
def test_nor_is_it_by_a_second_derivative(change: str, drawn) -> None:
    def act(module: nn.Module, owner: nn.Module) -> Results:
        x = drawn.input(shape=SHAPE)
        y = module(x)
        AFTER[change](owner)
        (grad,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        return with_zeros(gradients(grad, x, owner), x, owner) | {"output": y.detach()}

    # Second derivatives by different orders of sums drift further apart.
    assert_as_plain(drawn.block, act, within=torch.float32)


@DRAWS
@given(drawn=blocks(), by=st.sampled_from(["relu", "mul"]))
def test_an_input_that_is_changed_behind_the_forward_pass_is_refused_as_in_plain(
    drawn, by: str
) -> None:
    def act(module: nn.Module, owner: nn.Module, *, changes: bool = True) -> Results:
        x = drawn.input(shape=SHAPE)
        read = x * 1
        y = module(read)
        if changes:
            read.relu_() if by == "relu" else read.mul_(2)
        return gradients(y, x, owner)

    # A block with a norm in front keeps what the norm made in place of what it read.
    assert_as_plain(drawn.block, act, may_refuse=True)


@pytest.mark.parametrize("mode", [True, "recompute"])
def test_a_weight_that_is_changed_is_refused_where_kernels_are_joined(mode) -> None:
    torch.manual_seed(0)
    block = InceptionBlock(4, 4, bottleneck=False, memory_efficient=mode)
    assert block.execution.path == "one convolution"
    x = torch.randn(2, 4, 8, 8, requires_grad=True)
    y = block(x)
    with torch.no_grad():
        for weight in block.parameters():
            weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


PENALTY_CONTEXTS = {
    "deterministic": deterministic,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


@pytest.mark.parametrize("context", PENALTY_CONTEXTS)
@DRAWS
@given(drawn=blocks(dtypes=(torch.float32,)))
def test_a_penalty_within_a_context_is_that_of_plain(context: str, drawn) -> None:
    # Of a frozen row of linear layers, plain makes a gradient that depends on nothing, and yet
    # asks for its own.
    assume(not drawn.frozen)

    def act(module: nn.Module, owner: nn.Module) -> Results:
        x = drawn.input(shape=SHAPE)
        with PENALTY_CONTEXTS[context]():
            (grad,) = torch.autograd.grad(module(x).float().sum(), x, create_graph=True)
            return with_zeros(gradients(grad.square().sum(), x, owner), x, owner)

    assert_as_plain(drawn.block, act, within=torch.bfloat16 if context == "autocast" else None)


def hwc() -> Tensor:
    """One image of rows, columns and channels, as it comes from a file."""
    generator = torch.Generator().manual_seed(2)
    image = torch.rand(5, 6, 4, dtype=torch.float64, generator=generator)
    return image.permute(2, 0, 1)[None]


PENALISED = {
    "transition": lambda mode: TransitionBlock(
        4, 4, activation_layer=None, memory_efficient=mode
    ).eval(),
    "stage": lambda mode: DownBlock(4, 4, block=lambda *_: _Same(), memory_efficient=mode),
    "bare stage": lambda mode: DownBlock(
        4, 4, block=lambda *_: _Same(), activation_layer=None, memory_efficient=mode
    ),
}


class _Same(nn.Identity):
    out_channels = 4


@pytest.mark.parametrize("mode", [True, "recompute"])
@pytest.mark.parametrize("name", PENALISED)
def test_a_penalty_on_one_image_from_a_file_is_that_of_the_same_image_in_rows(name, mode) -> None:
    found = []
    for image in (hwc(), hwc().contiguous()):
        for own in (mode, False):
            torch.manual_seed(0)
            block = PENALISED[name](own).double()
            x = image.detach().requires_grad_()
            y = block(x)
            weights = torch.arange(y.numel(), dtype=y.dtype).view(y.shape)
            wanted = [x, *block.parameters()]
            grads = torch.autograd.grad((y * weights).sum(), wanted, create_graph=True)
            penalty = sum(grad.square().sum() for grad in grads)
            found.append(torch.autograd.grad(penalty, wanted, allow_unused=True))
    for other in found[1:]:
        for own, expected in zip(found[0], other, strict=True):
            # Where a second derivative is zero, PyTorch gives none, or zeros.
            zeros = torch.zeros(()).double()
            own, expected = (zeros if grad is None else grad for grad in (own, expected))
            torch.testing.assert_close(*torch.broadcast_tensors(own, expected))


@pytest.mark.parametrize("mode", [True, "recompute"])
def test_a_block_frozen_in_part_runs_on_the_meta_device(mode) -> None:
    block = InceptionBlock(4, 4, norm_layer=nn.BatchNorm2d, memory_efficient=mode).to("meta")
    for name, parameter in block.named_parameters():
        parameter.requires_grad_("norm" in name)
    assert block(torch.zeros(2, 4, 8, 8, device="meta")).shape == (2, 4, 8, 8)


def test_an_expanded_statistic_is_left_to_pytorch() -> None:
    # Asked and not run: PyTorch's backward pass in evaluation reads past the end of such a line.
    norm = nn.BatchNorm2d(4)
    assert reason_against_replacing([norm]) is None
    norm.running_mean = torch.zeros(1).expand(4)
    assert reason_against_replacing([norm]) is not None


def test_statistics_of_another_dtype_are_refused() -> None:
    block = DenseBlock(4, 2, num_layers=1)
    norm = block.layers[0].norm
    norm.running_mean, norm.running_var = norm.running_mean.double(), norm.running_var.double()
    with pytest.raises(RuntimeError, match="scalar type"):
        block(torch.randn(2, 4, 8, 8))
