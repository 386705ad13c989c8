"""What a backward pass computes again, where the context of the forward pass has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from gaslayers import DenseBlock, DepthwiseConvNormAct, DownBlock, TransitionBlock
from tests.lean.outcomes import (
    Drawn,
    Refusal,
    Results,
    assert_as_plain,
    blocks,
    draws,
    gradients,
)

DRAWS = draws(20)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def autocast() -> AbstractContextManager[None]:
    return torch.autocast("cpu", dtype=torch.bfloat16)


CONTEXTS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "nothing": nullcontext,
    "autocast": autocast,
    "no autocast": lambda: torch.autocast("cpu", enabled=False),
    "float64 by default": lambda: default_dtype(torch.float64),
    "bfloat16 by default": lambda: default_dtype(torch.bfloat16),
    "gradients": torch.enable_grad,
    "no gradients": torch.no_grad,
}


@pytest.mark.parametrize("ahead", [name for name in CONTEXTS if name != "no gradients"])
@DRAWS
@given(drawn=blocks(dtypes=(torch.float32,)), behind=st.sampled_from(list(CONTEXTS)))
def test_forward_and_backward_may_run_in_two_contexts(ahead: str, drawn, behind: str) -> None:
    def act(module: nn.Module, owner: nn.Module) -> Results:
        x = drawn.input()
        with CONTEXTS[ahead]():
            y = module(x)
        with CONTEXTS[behind]():
            return {"output": y.detach(), **gradients(y, x, owner), **dict(owner.named_buffers())}

    within = torch.bfloat16 if "autocast" in (ahead, behind) else None
    assert_as_plain(drawn.block, act, within=within)


@pytest.mark.parametrize("context", ["nothing", "autocast", "float64 by default"])
@DRAWS
@given(drawn=blocks(dtypes=(torch.float32,)))
def test_output_without_a_graph_is_that_of_plain(context: str, drawn: Drawn) -> None:
    def act(module: nn.Module, owner: nn.Module) -> Results:
        with CONTEXTS[context](), torch.no_grad():
            return {"output": module(drawn.input()), **dict(owner.named_buffers())}

    within = torch.bfloat16 if context == "autocast" else None
    assert_as_plain(drawn.block, act, within=within)


def _switch_training(owner: nn.Module) -> None:
    owner.train(not owner.training)


def _freeze(owner: nn.Module) -> None:
    owner.requires_grad_(requires_grad=False)


def _freeze_half(owner: nn.Module) -> None:
    for parameter in [*owner.parameters()][::2]:
        parameter.requires_grad_(requires_grad=False)


def _thaw(owner: nn.Module) -> None:
    owner.requires_grad_()


def _switch_mode(owner: nn.Module) -> None:
    for part in owner.modules():
        if hasattr(part, "memory_efficient"):
            part.memory_efficient = not part.memory_efficient


def _replace_statistics(owner: nn.Module) -> None:
    for part in owner.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_var is not None:
            part.running_mean = part.running_mean + 1
            part.running_var = part.running_var * 4


def _hook(owner: nn.Module) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a hook that came after the forward pass was called")

    for part in owner.modules():
        part.register_forward_hook(refuse)


def _run_once_more(owner: nn.Module) -> None:
    """Moves the statistics of norms in training, by other layers than the pass's own call."""
    with torch.no_grad():
        for part in owner.modules():
            if isinstance(part, nn.BatchNorm2d):
                dtype = next(owner.parameters()).dtype
                part(torch.randn(2, part.num_features, 2, 2, dtype=dtype))


def _in_dtype(dtype: torch.dtype) -> Callable[[nn.Module], None]:
    return lambda owner: owner.to(dtype) and None


def _norms_in_dtype(dtype: torch.dtype) -> Callable[[nn.Module], None]:
    def move(owner: nn.Module) -> None:
        for part in owner.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.to(dtype)

    return move


CHANGES: dict[str, Callable[[nn.Module], None]] = {
    "training flag": _switch_training,
    "frozen": _freeze,
    "half frozen": _freeze_half,
    "thawed": _thaw,
    "memory_efficient": _switch_mode,
    "statistics replaced": _replace_statistics,
    "hooks": _hook,
    "another pass of the norms": _run_once_more,
    "half": _in_dtype(torch.float16),
    "double": _in_dtype(torch.float64),
    "norms in half": _norms_in_dtype(torch.float16),
    "norms in double": _norms_in_dtype(torch.float64),
    "memory format": lambda owner: owner.to(memory_format=torch.channels_last) and None,
}

DTYPE_CHANGES = ("half", "double", "norms in half", "norms in double")


@pytest.mark.parametrize("change", CHANGES)
@DRAWS
@given(drawn=blocks())
def test_a_change_between_forward_and_backward_has_the_effect_that_it_has_on_plain(
    change: str, drawn: Drawn
) -> None:
    def act(module: nn.Module, owner: nn.Module, *, changes: bool = True) -> Results:
        x = drawn.input()
        wanted = [x, *(p for p in owner.parameters() if p.requires_grad)]
        y = module(x)
        if changes:
            CHANGES[change](owner)
        grads = torch.autograd.grad(y, wanted, torch.ones_like(y), allow_unused=True)
        return {str(index): grad for index, grad in enumerate(grads) if grad is not None}

    # A convolution that runs again refuses another dtype where one that does not would not see it,
    # and a kernel that was composed of others does not see theirs.
    is_dtype = change in DTYPE_CHANGES
    unchanged = partial(act, changes=False) if is_dtype else None
    assert_as_plain(drawn.block, act, may_refuse=is_dtype, unchanged=unchanged)


@draws(100)
@given(drawn=blocks(), data=st.data())
def test_a_tensor_changed_in_place_before_backward_is_refused_where_plain_refuses(
    drawn: Drawn, data: st.DataObject
) -> None:
    names = [name for name, value in drawn.block.state_dict().items() if value.is_floating_point()]
    name = data.draw(st.sampled_from(names))

    def act(module: nn.Module, owner: nn.Module, *, changes: bool = True) -> Results:
        x = drawn.input()
        y = module(x)
        with torch.no_grad():
            if changes:
                owner.state_dict(keep_vars=True)[name].mul_(1.5)
        return gradients(y, x, owner)

    # What is computed again reads offsets, too; a composed kernel is a copy of its parts.
    assert_as_plain(drawn.block, act, may_refuse=True, unchanged=partial(act, changes=False))


@DRAWS
@given(drawn=blocks())
def test_an_input_changed_in_place_before_backward_is_refused_where_plain_refuses(drawn) -> None:
    def act(module: nn.Module, owner: nn.Module, *, changes: bool = True) -> Results:
        x = drawn.input()
        inner = x * 1
        y = module(inner)
        if changes:
            inner.detach().add_(1)
        return gradients(y, x, owner)

    # A frozen convolution does not keep its input; one that pads in the composition keeps a copy.
    unchanged = partial(act, changes=False)
    expected = assert_as_plain(drawn.block, act, may_refuse=True, unchanged=unchanged)
    assert isinstance(expected, (dict, Refusal))


NORMED: dict[str, Callable[..., nn.Module]] = {
    "stage": partial(DownBlock, 8, 16),
    "averaging stage": partial(DownBlock, 8, 16, pool_layer=nn.AvgPool2d),
    "recomputed stage": partial(DownBlock, 8, 16, memory_efficient="recompute"),
    "dense": partial(DenseBlock, 8, 8, num_layers=2),
    "bottleneck": partial(DenseBlock, 8, 8, num_layers=2, bottleneck_factor=2),
    "transition": partial(TransitionBlock, 8),
    "unit": partial(DepthwiseConvNormAct, 8, 16, norm_layer=nn.BatchNorm2d),
}
"""Blocks by all functions that run a batch norm, which need not read its statistics again."""


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", ["running_mean", "running_var"])
@pytest.mark.parametrize("kind", NORMED)
def test_statistics_changed_in_place_before_backward_are_refused_as_by_plain(
    kind: str, name: str, layout: torch.memory_format
) -> None:
    def change_and_differentiate(block: nn.Module) -> None:
        x = torch.randn(4, 8, 6, 6).contiguous(memory_format=layout).requires_grad_()
        y = block(x)
        norms = [part for part in block.modules() if isinstance(part, nn.BatchNorm2d)]
        statistics: Tensor = getattr(norms[-1], name)
        statistics.mul_(1.5)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()

    block = NORMED[kind]().to(memory_format=layout)
    assert block.execution.is_lean
    change_and_differentiate(block)
    block.memory_efficient = False
    change_and_differentiate(block)
