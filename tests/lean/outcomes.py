"""What comes out of a block and of the composition of its layers: numbers, or a refusal."""

from __future__ import annotations

import copy
import dataclasses
import functools
import re
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import torch
from hypothesis import Phase, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gaslayers.testing._layouts import lay_out, lay_out_weights
from tests.lean.compositions import compose
from tests.lean.layout_matrix import numbers
from tests.lean.subjects import SUBJECTS, build

Results: TypeAlias = dict[str, Tensor]
Act: TypeAlias = Callable[[nn.Module, nn.Module], Results]
"""Runs its first argument, whose tensors and layers are those of the second."""


def draws(count: int) -> settings:
    """So many draws; why one fails is not explained, which takes many times as long."""
    return settings(max_examples=count, phases=[p for p in Phase if p is not Phase.explain])


INPLACE = "modified by an inplace operation"
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-11, torch.bfloat16: 2e-2, torch.float16: 4e-3}
"""As a share of the largest number, where another order of sums or another kernel runs."""


OWN_SENTENCE = re.compile(r"[A-Z]\w+: .*, got .*\.$", re.DOTALL)
"""How an error of this library reads."""


class Refusal(NamedTuple):
    """An error: its type, and whether a tensor had been changed in place."""

    error: str
    is_about_versions: bool
    message: str


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A block that hypothesis drew, and how to make its input."""

    name: str
    mode: Any
    dtype: torch.dtype
    layout: str
    training: bool
    frozen: bool

    @functools.cached_property
    def block(self) -> nn.Module:
        """The block; built when it is used, for which hypothesis sets no time."""
        block = build(SUBJECTS[self.name], 4, self.mode).to(self.dtype)
        lay_out_weights(block, self.layout)
        return block.train(self.training).requires_grad_(not self.frozen)

    def input(self, *, seed: int = 0, shape: tuple[int, ...] | None = None) -> Tensor:
        """An input that asks for its gradient."""
        if shape is None:
            # With even sizes PyTorch 2.14 writes past the end of memory in the backward pass of a
            # 1x1 convolution of few channels with stride 2 in channels_last.
            side = 7 if "strided" in self.name or "uneven" in self.name else 6
            shape = (3, 4, side, side)
        return lay_out(numbers(shape, seed, self.dtype), self.layout).requires_grad_()


def blocks(
    *, dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float64)
) -> st.SearchStrategy[Drawn]:
    """A block of any kind in any mode, in either memory format, of 4 input channels."""
    return st.builds(
        Drawn,
        name=st.sampled_from(list(SUBJECTS)),
        mode=st.sampled_from([True, "recompute"]),
        dtype=st.sampled_from(dtypes),
        layout=st.sampled_from(["contiguous", "channels_last"]),
        training=st.booleans(),
        frozen=st.sampled_from([False, False, False, True]),
    )


def outcome(act: Act, module: nn.Module, owner: nn.Module) -> Results | Refusal:
    """What an act ends with."""
    torch.manual_seed(0)
    try:
        return act(module, owner)
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
        message = str(error)
        return Refusal(type(error).__name__, INPLACE in message, message.splitlines()[0])


def gradients(y: Tensor, x: Tensor, owner: nn.Module, **options: Any) -> Results:
    """The gradients of an output that has some, by name."""
    wanted = {name: p for name, p in owner.named_parameters() if p.requires_grad}
    wanted |= {"x": x} if x.requires_grad else {}
    grad = numbers(tuple(y.shape), 7, torch.float32).to(y.dtype)
    found = torch.autograd.grad(y, [*wanted.values()], grad, allow_unused=True, **options)
    return {k: g for k, g in zip(wanted, found, strict=True) if g is not None}


def step(module: nn.Module, owner: nn.Module, x: Tensor) -> Results:
    """One pass forward and backward: output, gradients and buffers."""
    y = module(x)
    found = {"output": y.detach().clone(), **gradients(y, x, owner)}
    return found | {name: value.clone() for name, value in owner.named_buffers()}


def assert_same(
    found: Results | Refusal, expected: Results | Refusal, *, within: torch.dtype | None = None
) -> None:
    """Fail unless both are the same refusal, or the same numbers to rounding.

    That of each number's own dtype, or of the one that was computed ``within``.
    """
    if isinstance(found, Refusal) or isinstance(expected, Refusal):
        ends = [e if isinstance(e, Refusal) else f"gives {', '.join(e)}" for e in (found, expected)]
        both = "\nlean:  {}\nplain: {}".format(*ends)
        assert isinstance(found, Refusal), both
        assert isinstance(expected, Refusal), both
        # A check of ours may refuse in a sentence of its own what PyTorch refuses later.
        assert found[:2] == expected[:2] or OWN_SENTENCE.match(found.message), both
        return
    assert found.keys() == expected.keys()
    sizes = [t.abs().max().item() for t in expected.values() if t.numel()]
    largest = max([1.0, *sizes])
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        tolerance = TOLERANCE.get(within or value.dtype, 0.0) * largest
        torch.testing.assert_close(
            found[name],
            value,
            rtol=0.0,
            atol=tolerance,
            equal_nan=True,
            msg=lambda m, n=name: f"{n}: {m}",
        )


def assert_as_plain(
    block: nn.Module,
    act: Act,
    *,
    within: torch.dtype | None = None,
    may_refuse: bool = False,
    unchanged: Act | None = None,
) -> Results | Refusal:
    """Fail unless an act on a block ends as on the composition of its layers; return the end.

    Args:
        block: The block.
        act: What is done to it.
        within: The dtype to whose rounding numbers are compared; None: their own.
        may_refuse: Whether the block may refuse, by a RuntimeError, what the composition can do:
            it reads tensors in its backward pass that the composition does not read.
        unchanged: The act without a change of a tensor. A block that keeps less, and so has no use
            for that tensor any more, ends like this where the composition refuses the change, or
            reads the other values as only some processors do.
    """
    twin, fresh = copy.deepcopy(block), copy.deepcopy(block)
    expected = outcome(act, compose(twin), twin)
    found = outcome(act, block, block)
    if may_refuse and isinstance(found, Refusal) and isinstance(expected, dict):
        assert found.error == "RuntimeError", found
        return expected
    try:
        assert_same(found, expected, within=within)
    except AssertionError:
        if unchanged is None or not isinstance(found, dict):
            raise
        without = outcome(unchanged, compose(fresh), fresh)
        if isinstance(without, dict):
            # A parameter of another dtype is one that the graph does not lead to.
            without = {name: value for name, value in without.items() if name in found}
        assert_same(found, without, within=within)
    return expected
