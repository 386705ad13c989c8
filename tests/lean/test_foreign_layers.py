"""Layers that other people's code has changed: they run, as often as in the composition."""

from __future__ import annotations

import copy
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.modules import module as global_hooks
from torch.nn.utils import parametrizations, parametrize, prune

from tests.lean.compositions import compose
from tests.lean.outcomes import (
    Drawn,
    Results,
    assert_as_plain,
    assert_same,
    blocks,
    draws,
    outcome,
    step,
)

Calls = list[str]
DRAWS = draws(15)


def leaves(block: nn.Module) -> list[nn.Module]:
    """The innermost layers, which the composition calls."""
    return [part for part in block.modules() if not any(part.children())]


def _count(calls: Calls, kind: str) -> Callable[..., None]:
    return lambda module, *_: calls.append(f"{kind} {type(module).__name__}")


def _replace_forward(part: nn.Module, calls: Calls) -> None:
    forward = part.forward

    def replaced(x: Tensor) -> Tensor:
        calls.append("forward")
        return forward(x) * 1.5

    part.forward = replaced


def _replace_class(part: nn.Module, calls: Calls) -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        calls.append("forward")
        return type(part).__mro__[1].forward(self, x) * 1.5

    part.__class__ = type("Own", (type(part),), {"forward": forward})


def _replace_inner_forward(part: nn.Module, calls: Calls) -> None:
    def convolve(self: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        calls.append("_conv_forward")
        return nn.Conv2d._conv_forward(self, x, weight, bias) * 1.5

    part._conv_forward = types.MethodType(convolve, part)


def _double_output(part: nn.Module, calls: Calls) -> None:
    def double(_module: nn.Module, _args: object, output: Tensor) -> Tensor:
        calls.append("forward hook")
        return output * 2

    part.register_forward_hook(double)


CHANGES: dict[str, Callable[[nn.Module, Calls], object]] = {
    "forward pre-hook": lambda part, calls: part.register_forward_pre_hook(_count(calls, "pre")),
    "forward hook": _double_output,
    "forward hook with keywords": lambda part, calls: part.register_forward_hook(
        _count(calls, "forward"), with_kwargs=True, always_call=True
    ),
    "backward hook": lambda part, calls: part.register_full_backward_hook(_count(calls, "back")),
    "backward pre-hook": lambda part, calls: part.register_full_backward_pre_hook(
        _count(calls, "back pre")
    ),
    "forward": _replace_forward,
    "subclass": _replace_class,
}
"""What can be done to any layer."""


@pytest.mark.parametrize("change", CHANGES)
@DRAWS
@given(drawn=blocks(), data=st.data())
def test_a_changed_layer_is_called_as_often_as_in_the_composition(change, drawn, data) -> None:
    index = data.draw(st.integers(0, len(leaves(drawn.block)) - 1))
    ends, calls = [], []
    for lean in (True, False):
        owner, own_calls = copy.deepcopy(drawn.block), []
        CHANGES[change](leaves(owner)[index], own_calls)
        module = owner if lean else compose(owner)
        x = drawn.input()
        ends.append(outcome(lambda m, o, x=x: step(m, o, x), module, owner))
        calls.append(own_calls)
    assert_same(*ends)
    assert calls[0] == calls[1]


GLOBAL_HOOKS = {
    "forward pre-hook": global_hooks.register_module_forward_pre_hook,
    "forward hook": global_hooks.register_module_forward_hook,
    "backward hook": global_hooks.register_module_full_backward_hook,
    "backward pre-hook": global_hooks.register_module_full_backward_pre_hook,
}


@contextmanager
def everywhere(kind: str, calls: Calls) -> Iterator[None]:
    handle = GLOBAL_HOOKS[kind](_count(calls, kind))
    try:
        yield
    finally:
        handle.remove()


@pytest.mark.parametrize("kind", GLOBAL_HOOKS)
@DRAWS
@given(drawn=blocks())
def test_a_global_hook_sees_every_layer_that_it_sees_in_the_composition(kind: str, drawn) -> None:
    seen = []
    for lean in (True, False):
        owner, calls = copy.deepcopy(drawn.block), []
        module = owner if lean else compose(owner)
        with everywhere(kind, calls):
            # In place behind a hook on gradients PyTorch refuses, in both.
            outcome(lambda m, o: step(m, o, drawn.input()), module, owner)
        kinds = {f"{kind} {type(part).__name__}" for part in leaves(owner)}
        seen.append([call for call in calls if call in kinds and "Identity" not in call])
    assert seen[0] == seen[1]


class _Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight * 2


class _Tagged(Tensor):
    """A subclass that changes nothing but is not a plain tensor."""

    def __deepcopy__(self, memo: dict[int, object]) -> _Tagged:
        copied = self.detach().clone().as_subclass(_Tagged).requires_grad_(self.requires_grad)
        return (
            nn.Parameter(copied, self.requires_grad) if isinstance(self, nn.Parameter) else copied
        )


def _prune(conv: nn.Conv2d) -> nn.Module:
    conv.weight.data = conv.weight.data.contiguous()  # PyTorch prunes no other format
    return prune.random_unstructured(conv, "weight", amount=0.5)


WEIGHT_CHANGES: dict[str, Callable[[nn.Module], object]] = {
    "parametrisation": lambda conv: parametrize.register_parametrization(
        conv, "weight", _Doubled()
    ),
    "spectral norm": parametrizations.spectral_norm,
    "spectral norm of old": nn.utils.spectral_norm,
    "weight norm": parametrizations.weight_norm,
    "orthogonal": parametrizations.orthogonal,
    # While the mask is a layer's own, PyTorch does not copy the layer: see test_modules.
    "pruned for good": lambda conv: prune.remove(_prune(conv), "weight"),
}


@pytest.mark.parametrize("change", WEIGHT_CHANGES)
@DRAWS
@given(drawn=blocks(dtypes=(torch.float64,)), data=st.data())
def test_a_weight_that_is_computed_is_computed_as_in_the_composition(
    change: str, drawn: Drawn, data: st.DataObject
) -> None:
    share = data.draw(st.sampled_from(["one", "all"]))
    convolutions = [p for p in drawn.block.modules() if isinstance(p, nn.Conv2d)]
    chosen = convolutions if share == "all" else [data.draw(st.sampled_from(convolutions))]
    torch.manual_seed(0)
    for convolution in chosen:
        WEIGHT_CHANGES[change](convolution)

    def act(module: nn.Module, owner: nn.Module) -> Results:
        first = step(module, owner, drawn.input())
        second = step(module, owner, drawn.input(seed=1))  # spectral norm moves its vectors
        return first | {f"second {name}": value for name, value in second.items()}

    assert_as_plain(drawn.block, act)


@DRAWS
@given(drawn=blocks(dtypes=(torch.float64,)), data=st.data())
def test_a_convolution_with_another_inner_forward_is_called(drawn: Drawn, data) -> None:
    convolutions = [p for p in drawn.block.modules() if isinstance(p, nn.Conv2d)]
    index = data.draw(st.integers(0, len(convolutions) - 1))
    ends, calls = [], []
    for lean in (True, False):
        owner, own_calls = copy.deepcopy(drawn.block), []
        _replace_inner_forward(
            [p for p in owner.modules() if isinstance(p, nn.Conv2d)][index], own_calls
        )
        x = drawn.input()
        ends.append(step(owner if lean else compose(owner), owner, x))
        calls.append(own_calls)
    assert_same(*ends)
    assert calls[0] == calls[1]


@pytest.mark.parametrize("name", ["conv2d", "batch_norm", "relu", "max_pool2d"])
@DRAWS
@given(drawn=blocks(dtypes=(torch.float64,)))
def test_a_function_that_a_mode_replaces_is_replaced_everywhere(name: str, drawn: Drawn) -> None:
    function = getattr(F, name)

    class Doubling(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            return result * 2 if func is function else result

    def act(module: nn.Module, owner: nn.Module) -> Results:
        with Doubling():
            return {"output": module(drawn.input())}

    assert_as_plain(drawn.block, act)


@DRAWS
@given(drawn=blocks(dtypes=(torch.float64,)), data=st.data())
def test_parameters_and_inputs_of_a_subclass_are_computed_with_as_in_the_composition(
    drawn: Drawn, data: st.DataObject
) -> None:
    what = data.draw(st.sampled_from(["input", "weights", "both"]))
    if what != "input":
        for part in leaves(drawn.block):
            for name, value in [*part.named_parameters(recurse=False)]:
                tagged = value.detach().clone().as_subclass(_Tagged)
                setattr(part, name, nn.Parameter(tagged, requires_grad=value.requires_grad))

    def act(module: nn.Module, owner: nn.Module) -> Results:
        x = drawn.input().detach()
        x = (x if what == "weights" else x.as_subclass(_Tagged)).requires_grad_()
        y = module(x)
        assert type(y) is _Tagged
        found = step(module, owner, x)
        return {name: value.as_subclass(Tensor) for name, value in found.items()}

    assert_as_plain(drawn.block, act)


@DRAWS
@given(drawn=blocks(), data=st.data())
def test_a_layer_put_in_anothers_place_is_called(drawn: Drawn, data: st.DataObject) -> None:
    class Scaling(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x) * 0.5

    names = [name for name, part in drawn.block.named_modules() if not any(part.children())]
    parent, _, child = data.draw(st.sampled_from(names)).rpartition(".")
    owner = drawn.block.get_submodule(parent)
    setattr(owner, child, Scaling(getattr(owner, child)))
    assert_as_plain(drawn.block, lambda module, owner: step(module, owner, drawn.input()))


def test_a_hook_everywhere_is_gone_after_its_context() -> None:
    with ExitStack() as stack:
        stack.enter_context(everywhere("forward hook", []))
        assert global_hooks._global_forward_hooks
    assert not global_hooks._global_forward_hooks
