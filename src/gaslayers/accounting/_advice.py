"""What a network's author could change to train it from less, found by trying it on copies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.module import register_module_forward_pre_hook

from gaslayers._watching import watches_only
from gaslayers.accounting._sandbox import Call, copied, tensors_of
from gaslayers.lean.engine.saving import lean_saving


def activations_for_in_place(owner: str, call: Call) -> list[str]:
    """Modules with ``inplace=False`` whose network computes the same with ``inplace=True``.

    All of them together where that goes, else each that goes alone. A trial is a training step of
    a copy under the engine: outputs and gradients are the same to the bit, and nothing is refused.

    Args:
        owner: The function that asks.
        call: What to run.
    """
    names = [
        name
        for name, part in call.module.named_modules()
        if getattr(part, "inplace", None) is False and not getattr(part, "p", 0.0)  # no dropout
    ]
    if not names:
        return []
    expected = _step(owner, call, [])
    if not expected or _is_same(_step(owner, call, names), expected):
        return names if expected else []
    return [name for name in names if _is_same(_step(owner, call, [name]), expected)]


def _step(owner: str, call: Call, in_place: Sequence[str]) -> list[Tensor | None]:
    """Outputs and gradients of one step of a copy; none where PyTorch refuses it."""
    twin, state = copied(owner, call), torch.get_rng_state()
    for name in in_place:
        twin.module.get_submodule(name).inplace = True  # type: ignore[assignment]  # it has one
    leaves = [
        t for t in [*twin.module.parameters(), *twin.inputs()] if t.requires_grad and t.is_leaf
    ]
    try:
        with lean_saving():
            made = [y for y in tensors_of(twin.run()) if y.requires_grad]
        outputs: list[Tensor | None] = [y.detach().clone() for y in made]
        if not made or not leaves:
            return []
        loss = torch.stack([y.float().square().sum() for y in made]).sum()
        return outputs + list(torch.autograd.grad(loss, leaves, allow_unused=True))
    except RuntimeError:  # what the backward pass reads was overwritten
        return []
    finally:
        torch.set_rng_state(state)


def _is_same(found: Sequence[Tensor | None], expected: Sequence[Tensor | None]) -> bool:
    return len(found) == len(expected) and all(
        a is b if a is None or b is None else torch.equal(a, b)
        for a, b in zip(found, expected, strict=True)
    )


class Calls:
    """Counts how often each part of a module is called, and on inputs of which shape.

    Args:
        module: The module.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._names = {part: name for name, part in module.named_modules()}
        self._shapes: dict[str, list[Any]] = {}

    @contextmanager
    def counted(self) -> Iterator[None]:
        """While a forward pass runs."""
        handle = register_module_forward_pre_hook(self._enter)
        try:
            yield
        finally:
            handle.remove()

    @watches_only
    def _enter(self, part: nn.Module, args: Any) -> None:
        name = self._names.get(part)
        if name is not None:
            shapes = tuple(tuple(x.shape[1:]) for x in tensors_of(args))
            self._shapes.setdefault(name, []).append(shapes)

    def that_could_be_joined(self) -> list[tuple[str, int]]:
        """Parts that are called several times on inputs that could be one batch.

        Those that learn something, and have no live batch norm. Of parts within parts the
        outermost are meant.
        """
        found: list[tuple[str, int]] = []
        outer: list[str] = []
        for name, shapes in self._shapes.items():
            if not name or len(shapes) < 2 or any(name.startswith(f"{o}.") for o in outer):
                continue
            outer.append(name)
            part = self._module.get_submodule(name)
            learns = any(p.requires_grad for p in part.parameters())
            is_live = any(isinstance(m, _BatchNorm) and m.training for m in part.modules())
            are_alike = bool(shapes[0]) and len(set(shapes)) == 1
            if learns and are_alike and not is_live:
                found.append((name, len(shapes)))
        return found
