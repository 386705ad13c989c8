"""What stands before and behind a block: layers in place, other blocks, double use."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gaslayers import DenseBlock
from tests.lean.outcomes import (
    Drawn,
    Results,
    assert_as_plain,
    assert_same,
    blocks,
    draws,
    gradients,
    step,
)

DRAWS = draws(20)

BEHIND: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": nn.ReLU(inplace=True),
    "leaky": nn.LeakyReLU(0.2, inplace=True),
    "dropout that is off": nn.Dropout(0.0, inplace=True),
    "add": lambda y: y.add_(1),
    "scale": lambda y: y.mul_(2),
    "part": lambda y: (y[:, :1].zero_(), y)[1],
    "copy": lambda y: y.copy_(y * 2),
    "out": lambda y: torch.mul(y.detach(), 3, out=torch.empty_like(y)) + y,
}


@pytest.mark.parametrize("behind", BEHIND)
@DRAWS
@given(drawn=blocks())
def test_an_in_place_layer_behind_a_block_works_as_behind_its_composition(behind, drawn) -> None:
    def act(module: nn.Module, owner: nn.Module) -> Results:
        x = drawn.input()
        y = BEHIND[behind](module(x))
        return {"output": y.detach(), **gradients(y, x, owner), **dict(owner.named_buffers())}

    # A dense block keeps its output, and refuses a change of it.
    assert_as_plain(drawn.block, act, may_refuse="dense" in drawn.name)


def test_a_dense_block_whose_output_was_changed_says_what_to_do() -> None:
    network = nn.Sequential(DenseBlock(4, 3), nn.ReLU(inplace=True))
    y = network(torch.randn(2, 4, 8, 8))
    with pytest.raises(RuntimeError, match=r"inplace operation.*memory_efficient=False"):
        y.sum().backward()
    network[0].memory_efficient = False
    network(torch.randn(2, 4, 8, 8)).sum().backward()


@DRAWS
@given(drawn=blocks())
def test_an_in_place_layer_before_a_block_works_as_before_its_composition(drawn: Drawn) -> None:
    def act(module: nn.Module, owner: nn.Module) -> Results:
        x = drawn.input()
        y = module(nn.functional.relu_(x * 1))
        return {"output": y.detach(), **gradients(y, x, owner)}

    assert_as_plain(drawn.block, act)


@DRAWS
@given(drawn=blocks())
def test_an_input_changed_in_place_after_the_pass_is_refused_or_not_as_by_plain(drawn) -> None:
    def act(module: nn.Module, owner: nn.Module, *, in_place: bool = True) -> Results:
        x = drawn.input()
        inner = x * 1
        y = module(inner)
        changed = inner.relu_() if in_place else inner.relu()
        return gradients(y + changed.mean(), x, owner)

    # A frozen convolution does not keep its input; one that pads in the composition keeps a copy.
    unchanged = partial(act, in_place=False)
    assert_as_plain(drawn.block, act, may_refuse=True, unchanged=unchanged)


@DRAWS
@given(drawn=blocks())
def test_a_block_used_twice_adds_up_both_gradients(drawn: Drawn) -> None:
    def act(module: nn.Module, owner: nn.Module) -> Results:
        x = drawn.input()
        y = module(x) + module(x * 2).sin()
        return {"output": y.detach(), **gradients(y, x, owner), **dict(owner.named_buffers())}

    assert_as_plain(drawn.block, act)


@DRAWS
@given(drawn=blocks())
def test_a_graph_that_is_retained_gives_the_same_gradient_again(drawn: Drawn) -> None:
    x = drawn.input()
    y = drawn.block(x)
    first = gradients(y, x, drawn.block, retain_graph=True)
    assert_same(gradients(y, x, drawn.block), first)


@DRAWS
@given(drawn=blocks())
def test_a_backward_pass_that_is_made_twice_is_refused_as_by_plain(drawn: Drawn) -> None:
    def act(module: nn.Module, owner: nn.Module) -> Results:
        x = drawn.input()
        y = module(x)
        gradients(y, x, owner)
        return gradients(y, x, owner)

    assert_as_plain(drawn.block, act)


@DRAWS
@given(drawn=blocks())
def test_one_of_several_gradients_alone_is_the_same(drawn: Drawn) -> None:
    def act(module: nn.Module, owner: nn.Module) -> Results:
        x = drawn.input()
        wanted = [x, *(p for p in owner.parameters() if p.requires_grad)]
        y = module(x).square().sum()
        return {
            str(i): torch.autograd.grad(y, w, retain_graph=True)[0] for i, w in enumerate(wanted)
        }

    assert_as_plain(drawn.block, act)


@DRAWS
@given(drawn=blocks())
def test_operations_are_counted_forward_and_backward(drawn: Drawn) -> None:
    """Convolutions may run again or as one; a mode that watches them changes no number."""

    def act(module: nn.Module, owner: nn.Module) -> Results:
        with FlopCounterMode(display=False) as counter:
            found = step(module, owner, drawn.input())
        return {**found, "operations": torch.tensor(counter.get_total_flops())}

    assert_as_plain(drawn.block, act)
