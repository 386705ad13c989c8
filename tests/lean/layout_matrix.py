"""Combinations of layouts: drawn by number, run lean and as a composition, and compared."""

from __future__ import annotations

import copy
import dataclasses
import functools
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gaslayers.testing._layouts import MAP_LAYOUTS, WEIGHT_LAYOUTS, lay_out, lay_out_weights
from tests.lean.compositions import compose
from tests.lean.subjects import NETWORKS, SUBJECTS, build

ONE_FORMAT = [
    {"contiguous", "batch_slice", "flat", "loaded_contiguous"},
    {"channels_last", "batch_slice_last", "loaded_last"},
]
"""Layouts that go together: dense maps of one memory format."""
SHARES = {torch.float32: 4e-6, torch.float64: 2e-12}
"""What rounding may move, as a share of the largest numbers around."""
NOISE = 16
"""How many times the plain composition's own rounding lean's may be."""
CONSTANT = {"expanded": 1e3, "expanded_pixels": 1e3}
"""Inputs whose channels are constant, and how much more rounding a norm makes of them.

It divides by the standard deviation, which is zero but for what it adds to it.
"""


@dataclasses.dataclass(frozen=True)
class Combination:
    """One block in one state on one input, and the memory that everything lies in."""

    subject: str
    memory_efficient: Any
    dtype: torch.dtype
    shape: tuple[int, int, int, int]
    weights: str
    input: str
    grad: str
    training: bool
    frozen: str
    input_grad: bool
    seed: int

    @property
    def is_uniform(self) -> bool:
        """Whether all lie densely in one memory format, and not in both as where an axis is one."""
        used = {self.weights, self.input, self.grad}
        is_told = self.shape[1] > 1 and self.shape[2:] != (1, 1)
        return is_told and any(used <= layouts for layouts in ONE_FORMAT)


def draw(number: int, seed: int = 0) -> Combination:
    """The combination of a number: always the same one."""
    rng = random.Random(f"{seed}/{number}")
    names = [*SUBJECTS] * 5 + [*NETWORKS]
    name = rng.choice(names)
    subject = SUBJECTS.get(name) or NETWORKS[name]
    sides = [side for side in (1, 2, 3, 4, 5, 7, 8) if side >= subject.min_side]
    height, width = (subject.image_size or rng.choice(sides) for _ in range(2))
    layouts = list(MAP_LAYOUTS)
    # Half of the inputs and gradients lie in the two usual ways, where kernels run.
    usual = layouts[:2] * 14
    given = rng.choice(usual + layouts)
    dtypes = [torch.float64] if given in CONSTANT else [torch.float32, torch.float64]
    return Combination(
        subject=name,
        memory_efficient=rng.choice([True, "recompute"]),
        dtype=rng.choice(dtypes),
        shape=(rng.choice([1, 2, 3, 4]), rng.choice([1, 1, 3, 4, 7]), height, width),
        weights=rng.choice(list(WEIGHT_LAYOUTS)),
        input=given,
        grad=rng.choice(usual + layouts),
        training=rng.random() < 0.7,
        frozen=rng.choice(["nothing", "nothing", "everything", "some"]),
        input_grad=rng.random() < 0.8,
        seed=rng.randrange(2**32),
    )


@functools.cache
def _pristine(
    name: str, in_channels: int, memory_efficient: Any, dtype: torch.dtype
) -> tuple[nn.Module, nn.Module, dict[str, Tensor]]:
    """A block, a copy of it and their state, to be used again and again."""
    subject = SUBJECTS.get(name) or NETWORKS[name]
    block = build(subject, in_channels, memory_efficient).to(dtype)
    state = {key: value.clone() for key, value in block.state_dict().items()}
    return block, copy.deepcopy(block), state


def _prepare(block: nn.Module, state: dict[str, Tensor], combination: Combination) -> None:
    """Put a block into the state that a combination starts from."""
    for key, value in block.state_dict(keep_vars=True).items():
        value.data = state[key].clone()
        value.grad = None
    block.train(combination.training)
    rng = random.Random(combination.seed)
    for parameter in block.parameters():
        keeps = {"nothing": True, "everything": False, "some": rng.random() < 0.5}
        parameter.requires_grad_(keeps[combination.frozen])
    lay_out_weights(block, combination.weights)


def numbers(shape: tuple[int, ...], seed: int, dtype: torch.dtype) -> Tensor:
    """Normal noise, in float64 that of float32: what differs is how it is computed with."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(dtype)


def _grad_for(y: Tensor, layout: str, seed: int) -> Tensor:
    if y.dim() == 4:
        return lay_out(numbers(tuple(y.shape), seed, y.dtype), layout)
    return lay_out(numbers((*y.shape, 1, 1), seed, y.dtype), layout)[..., 0, 0]


def run(
    module: nn.Module, owner: nn.Module, combination: Combination, *, copies: bool = False
) -> dict[str, Tensor] | str:
    """Everything that comes out of a step, by name; or the error that it ends with.

    ``module`` computes with the tensors of ``owner``. With ``copies`` the input and the gradient
    are contiguous, whatever the combination says.
    """
    x = lay_out(numbers(combination.shape, combination.seed, combination.dtype), combination.input)
    x = x.clone(memory_format=torch.contiguous_format) if copies else x
    before = x.clone()
    x.requires_grad_(combination.input_grad)
    wanted = {f"grad of {k}": p for k, p in owner.named_parameters() if p.requires_grad}
    if combination.input_grad:
        wanted["grad of x"] = x
    try:
        y = module(x)
        found = {"output": y.detach()}
        if wanted:
            grad = _grad_for(y.detach(), combination.grad, combination.seed + 1)
            grad = grad.clone(memory_format=torch.contiguous_format) if copies else grad
            grad_before = grad.clone()
            grads = torch.autograd.grad(y, [*wanted.values()], grad, allow_unused=True)
            found |= {k: g for k, g in zip(wanted, grads, strict=True) if g is not None}
            found["change of the output's gradient"] = grad - grad_before
    except (RuntimeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    found["change of the input"] = x.detach() - before
    return found | {name: value.clone() for name, value in owner.named_buffers()}


@contextmanager
def poisoned() -> Iterator[None]:
    """Fill memory that nobody has written with NaN, so that reading it shows."""
    before = torch.are_deterministic_algorithms_enabled()
    fills = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.utils.deterministic.fill_uninitialized_memory = fills


def _differences(
    found: dict[str, Tensor],
    expected: dict[str, Tensor],
    noise: dict[str, float],
    *,
    exact: bool,
    times: float = 1.0,
) -> dict[str, str]:
    """What differs, by name, in a sentence each; rounding may move so many ``times`` more."""
    if found.keys() != expected.keys():
        return {"names": f"{sorted(found.keys() ^ expected.keys())} on one side only"}
    largest = max((t.abs().max().item() for t in expected.values() if t.numel()), default=0.0)
    wrong = {}
    for name, value in found.items():
        want = expected[name]
        if value.shape != want.shape or value.dtype != want.dtype:
            wrong[name] = f"{value.dtype} {tuple(value.shape)}, not {want.dtype} {want.shape}"
            continue
        if torch.equal(value, want) or not value.numel():
            continue
        if not value.isfinite().all():
            wrong[name] = "holds NaN or infinity"
            continue
        difference = (value - want).abs().max().item()
        moves = name.endswith(("running_mean", "running_var"))  # documented: to their last bit
        size = max(1.0, want.abs().max().item(), 1e-2 * largest)
        bound = times * SHARES.get(value.dtype, 0.0) * size + NOISE * noise.get(name, 0.0)
        if (exact and not moves) or difference > bound:
            wrong[name] = f"differs by {difference:.3g} of {size:.3g}"
    return wrong


def _own_rounding(combination: Combination, expected: dict[str, Tensor]) -> dict[str, float]:
    """How far the plain composition is from itself in float64."""
    if combination.dtype == torch.float64:
        return {}
    precise = dataclasses.replace(combination, dtype=torch.float64)
    key = combination.subject, combination.shape[1], combination.memory_efficient
    _, twin, state = _pristine(*key, torch.float64)
    _, _, single = _pristine(*key, torch.float32)
    _prepare(twin, {k: v.to(state[k].dtype) for k, v in single.items()}, precise)
    exact = run(compose(twin), twin, precise)
    if isinstance(exact, str):
        return {}
    return {k: (expected[k] - exact[k]).abs().max().item() for k in exact if exact[k].numel()}


PADDED = ("conv even", "dense even", "depthwise strided", "down strided conv")
"""Where the composition puts zeros that no window reads, and the block does not: another map."""


def judge(combination: Combination, *, is_plain: bool = False) -> dict[str, str]:
    """What is wrong with a combination, by the name of the tensor; empty: nothing.

    With ``is_plain`` the block is switched to plain, which has to be the composition to the bit,
    but for rounding in those of `PADDED`.
    """
    key = combination.subject, combination.shape[1], combination.memory_efficient
    block, twin, state = _pristine(*key, combination.dtype)
    _prepare(block, state, combination)
    _prepare(twin, state, combination)
    switched = [part for part in block.modules() if hasattr(part, "memory_efficient")]
    modes = [part.memory_efficient for part in switched]
    try:
        if is_plain:
            block.memory_efficient = False
            if combination.subject in NETWORKS:
                for part in switched:
                    part.memory_efficient = False
        with poisoned():
            found = run(block, block, combination)
    finally:
        for part, mode in zip(switched, modes, strict=True):
            part.memory_efficient = mode
    expected = run(compose(twin), twin, combination)
    if isinstance(expected, dict) and not all(v.isfinite().all() for v in expected.values()):
        return {"composition": "is not finite, and so no oracle"}
    if isinstance(found, str) or isinstance(expected, str):
        return {} if found == expected else {"error": f"{found!s:.300} | {expected!s:.300}"}
    subject = SUBJECTS.get(combination.subject) or NETWORKS[combination.subject]
    exact = (is_plain and combination.subject not in PADDED) or (
        subject.exact and combination.is_uniform
    )
    times = CONSTANT.get(combination.input, 1.0)
    wrong = _differences(found, expected, {}, exact=exact, times=times)
    if wrong and not exact:
        noise = _own_rounding(combination, expected)
        wrong = _differences(found, expected, noise, exact=False, times=times)
    if wrong and _differences(found, expected, {}, exact=False, times=times):
        # More than rounding: some operators of PyTorch misread strides along axes of one, or find a
        # variance that is rounding alone where numbers share their memory.
        _prepare(twin, state, dataclasses.replace(combination, weights="contiguous"))
        copied = run(compose(twin), twin, combination, copies=True)
        if isinstance(copied, dict) and not isinstance(found, str):
            rest = _differences(found, copied, {}, exact=False, times=times)
            wrong = wrong if rest else {}
    return wrong
