"""What a network's author could change to train it from less, found by trying it on copies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

from gaslayers._watching import watches_only
from gaslayers.accounting._sandbox import Call, copied
from gaslayers.lean.engine.saving import lean_saving
from gaslayers.lean.modules import tensors_of


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
        if getattr(part, "inplace", None) is False and not isinstance(part, _DropoutNd)
    ]
    expected = _step(owner, call, []) if names else []
    if not expected:
        return []
    if _is_same(_step(owner, call, names), expected):
        return names
    return [name for name in names if _is_same(_step(owner, call, [name]), expected)]


def _step(owner: str, call: Call, in_place: Sequence[str]) -> list[Tensor | None]:
    """All that one step of a copy gives and leaves behind; nothing where it fails."""
    twin, state = copied(owner, call), torch.get_rng_state()
    leaves = [
        t for t in [*twin.module.parameters(), *twin.inputs()] if t.requires_grad and t.is_leaf
    ]
    try:
        for name in in_place:
            twin.module.get_submodule(name).inplace = True  # type: ignore[assignment]  # it has one
        with lean_saving():
            made = tensors_of(twin.run())
        outputs: list[Tensor | None] = [y.detach().clone() for y in made]
        scores = [y.float().square().sum() for y in made if y.requires_grad]
        if not scores or not leaves:
            return []
        grads = torch.autograd.grad(torch.stack(scores).sum(), leaves, allow_unused=True)
        return [*outputs, *grads, *twin.inputs(), *twin.module.buffers()]
    except Exception:  # noqa: BLE001  # a trial that fails is an answer, whatever the module raises
        return []
    finally:
        torch.set_rng_state(state)


def _is_same(found: Sequence[Tensor | None], expected: Sequence[Tensor | None]) -> bool:
    return len(found) == len(expected) and all(
        a is b if a is None or b is None else torch.equal(_dense(a), _dense(b))
        for a, b in zip(found, expected, strict=True)
    )


def _dense(tensor: Tensor) -> Tensor:
    return tensor if tensor.layout == torch.strided else tensor.to_dense()


class Calls:
    """Counts how often each part of a module is called, and on inputs of which shape.

    Args:
        module: The module.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._names = {part: name for name, part in module.named_modules()}
        self._shapes: dict[str, list[Any]] = {}
        self._made: dict[str, set[Any]] = {}
        self._in_a_row: set[str] = set()

    @contextmanager
    def counted(self) -> Iterator[None]:
        """While a forward pass runs."""
        with ExitStack() as hooks:
            hooks.callback(register_module_forward_pre_hook(self._enter).remove)
            hooks.callback(register_module_forward_hook(self._leave).remove)
            yield

    @watches_only
    def _enter(self, part: nn.Module, args: Any) -> None:
        name = self._names.get(part)
        if name is not None:
            shapes = tuple(tuple(x.shape[1:]) for x in tensors_of(args))
            self._shapes.setdefault(name, []).append(shapes)
            if _reaches(tensors_of(args), self._made.get(name, set())):
                self._in_a_row.add(name)

    @watches_only
    def _leave(self, part: nn.Module, _args: Any, made: Any) -> None:
        name = self._names.get(part)
        if name is not None:
            nodes = {y.grad_fn for y in tensors_of(made) if y.grad_fn is not None}
            self._made.setdefault(name, set()).update(nodes)

    def that_could_be_joined(self) -> list[tuple[str, int]]:
        """Parts that are called several times on inputs that could be one batch.

        Those that learn something, have no live batch norm, and do not read what they made
        before. Of parts within parts the outermost are meant.
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
            if learns and are_alike and not is_live and name not in self._in_a_row:
                found.append((name, len(shapes)))
        return found


def _reaches(tensors: Sequence[Tensor], nodes: set[Any]) -> bool:
    """Whether one of these depends on what a node of the graph made."""
    rest, seen = [t.grad_fn for t in tensors], set[Any]()
    while nodes and rest:
        node = rest.pop()
        if node in nodes:
            return True
        if node is not None and node not in seen:
            seen.add(node)
            rest += [below for below, _ in node.next_functions]
    return False
