"""Saved tensors that other people's hooks move: back come equal numbers in other memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch
from hypothesis import given, reject
from torch import Tensor, nn
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from gaslayers.testing._layouts import MAP_LAYOUTS, lay_out
from tests.lean.compositions import compose
from tests.lean.outcomes import (
    Drawn,
    Results,
    assert_as_plain,
    assert_same,
    blocks,
    draws,
    gradients,
    outcome,
    step,
)

REPEATING = ("expanded", "overlapping")


def _gapped(tensor: Tensor) -> Tensor:
    return torch.stack([tensor, torch.zeros_like(tensor)], -1)[..., 0]


def _behind_another(tensor: Tensor) -> Tensor:
    """The numbers one element into new memory, so that they lie at an odd address."""
    line = tensor.new_empty(tensor.numel() + 1)[1:]
    return line.copy_(tensor.flatten()).view(tensor.shape)


def _as_map(layout: str) -> Callable[[Tensor], Tensor]:
    def unpack(tensor: Tensor) -> Tensor:
        is_map = tensor.dim() == 4 and tensor.is_floating_point()
        return lay_out(tensor, layout) if is_map else _gapped(tensor)

    return unpack


UNPACKINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": Tensor.contiguous,
    "gapped": _gapped,
    "at an odd address": _behind_another,
    "detached": Tensor.detach,
    **{name: _as_map(name) for name in MAP_LAYOUTS if not name.startswith(REPEATING)},
}


def _equal_to_the_composition(
    drawn: Drawn, context: Callable[[], AbstractContextManager[object]]
) -> None:
    """Fail unless gradients under the context are the composition's without it."""
    x = drawn.input()
    plain = outcome(lambda m, o: step(m, o, x), compose(drawn.block), drawn.block)
    if not isinstance(plain, dict):
        return
    again = {k: v for k, v in plain.items() if k == "output" or not k.endswith("tracked")}

    def act(module: nn.Module, owner: nn.Module) -> Results:
        with context():
            y = module(x)
        return {"output": y.detach(), **gradients(y, x, owner)}

    # PyTorch's own operators read some layouts wrong that no layer of its makes.
    moved = outcome(act, compose(drawn.block), drawn.block)
    try:
        assert isinstance(moved, dict)
        assert_same(moved, {name: again[name] for name in moved})
    except AssertionError:
        reject()
    found = outcome(act, drawn.block, drawn.block)
    assert isinstance(found, dict), found
    assert_same(found, {name: again[name] for name in found})


@pytest.mark.parametrize("unpacking", UNPACKINGS)
@draws(8)
@given(drawn=blocks())
def test_saved_tensors_may_come_back_in_any_layout(unpacking: str, drawn: Drawn) -> None:
    unpack = UNPACKINGS[unpacking]
    _equal_to_the_composition(drawn, lambda: saved_tensors_hooks(lambda t: t, unpack))


@draws(20)
@given(drawn=blocks())
def test_saved_tensors_may_be_packed_to_numbers(drawn: Drawn) -> None:
    def pack(tensor: Tensor) -> tuple[object, ...]:
        return tensor.flatten().tolist(), tensor.shape, tensor.dtype

    def unpack(packed: tuple) -> Tensor:
        values, shape, dtype = packed
        return torch.tensor(values, dtype=dtype).view(shape)

    _equal_to_the_composition(drawn, lambda: saved_tensors_hooks(pack, unpack))


@draws(25)
@given(drawn=blocks())
def test_saved_tensors_may_lie_on_the_cpu(drawn: Drawn) -> None:
    _equal_to_the_composition(drawn, save_on_cpu)


@pytest.mark.parametrize("wrong", [torch.float16, "shape"])
@draws(25)
@given(drawn=blocks(dtypes=(torch.float32,)))
def test_saved_tensors_of_another_dtype_or_shape_are_no_crash(wrong, drawn: Drawn) -> None:
    """What comes of it is the hook's own affair, but for the process, which goes on."""

    def unpack(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        return tensor.flatten()[:1] if wrong == "shape" else tensor.to(wrong)

    def act(module: nn.Module, owner: nn.Module) -> Results:
        x = drawn.input()
        with saved_tensors_hooks(lambda t: t, unpack):
            y = module(x)
        return gradients(y, x, owner)

    outcome(act, drawn.block, drawn.block)


@pytest.mark.parametrize("use_reentrant", [True, False])
@draws(30)
@given(drawn=blocks())
def test_a_block_within_a_checkpoint_equals_its_composition(use_reentrant, drawn: Drawn) -> None:
    def act(module: nn.Module, owner: nn.Module) -> Results:
        x = drawn.input()
        y = checkpoint(module, x, use_reentrant=use_reentrant)
        # Gradients of parameters come by `backward` alone, where it is reentrant.
        y.backward(torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape))
        grads = {name: p.grad for name, p in owner.named_parameters() if p.grad is not None}
        return {"output": y.detach(), "x": x.grad, **grads, **dict(owner.named_buffers())}

    assert_as_plain(drawn.block, act)
