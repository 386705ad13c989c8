"""What a module does to its input, read off a run: layers, functions, and what feeds what."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

ELEMENTWISE = "elementwise"
"""Norms, activations and dropout: drawn in one box with the layer that they belong to."""


@dataclass
class Step:
    """One box: what happens in it, in order, to which earlier boxes' outputs.

    Args:
        lines: What is done.
        kind: ``"input"``, ``"compute"``, ``"join"``, ``"pool"``, ``"other"`` or `ELEMENTWISE`.
        shape: Shape of the output.
        inputs: The steps that it reads.
    """

    lines: list[str]
    kind: str
    shape: tuple[int, ...]
    inputs: list[Step] = field(default_factory=list)


def _square(size: Any) -> str:
    sizes = size if isinstance(size, tuple) else (size, size)
    return "x".join(map(str, sizes))


def describe(module: nn.Module) -> tuple[str, str]:
    """What a layer is called in a picture, and its kind."""
    name = type(module).__name__
    if isinstance(module, nn.Conv2d):
        channels = f"{module.in_channels} → {module.out_channels}"
        if module.groups == module.in_channels > 1:
            return f"{_square(module.kernel_size)} depthwise, {module.in_channels}", "compute"
        return f"{_square(module.kernel_size)} conv, {channels}", "compute"
    if isinstance(module, nn.Linear):
        return f"linear, {module.in_features} → {module.out_features}", "compute"
    if isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
        kind = "max" if isinstance(module, nn.MaxPool2d) else "average"
        return f"{_square(module.kernel_size)} {kind} pool", "pool"
    if any(True for _ in module.children()) or "Block" in name:
        return name, "compute"
    return name, ELEMENTWISE if "Flatten" not in name else "other"


class _Recorder(TorchFunctionMode):
    """Follow tensors from step to step."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = 0  # of layers that are boxes: what happens inside them is theirs
        self.made: dict[int, Step] = {}
        self.alive: list[Tensor] = []  # ids of dead tensors are given out again

    def note(self, output: Tensor, step: Step) -> None:
        self.made[id(output)] = step
        self.alive.append(output)

    def sources(self, values: Any) -> list[Step]:
        found: list[Step] = []
        for value in values:
            if isinstance(value, list | tuple):
                found += self.sources(value)
            elif isinstance(value, Tensor) and id(value) in self.made:
                found.append(self.made[id(value)])
        return found

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if self.depth or not isinstance(output, Tensor) or id(output) in self.made:
            return output
        inputs = self.sources(args)
        if inputs:
            name = func.__name__
            is_join = len(inputs) > 1
            line = "concatenate" if name in ("cat", "concatenate") else name
            kind = "join" if is_join else "other"
            self.note(output, Step([line], kind, tuple(output.shape), inputs))
        return output

    @contextlib.contextmanager
    def watching(self, module: nn.Module, depth: int | None) -> Iterator[None]:
        """Hook the layers that become boxes: those without parts, or ``depth`` levels down."""
        with contextlib.ExitStack() as stack:
            for name, part in module.named_modules():
                level = name.count(".") + 1 if name else 0
                is_leaf = next(part.children(), None) is None or level == depth
                if not is_leaf or isinstance(part, nn.Identity):
                    continue
                stack.callback(part.register_forward_pre_hook(self._enter).remove)
                stack.callback(part.register_forward_hook(self._leave).remove)
            yield

    def _enter(self, _module: nn.Module, _args: Any) -> None:
        self.depth += 1

    def _leave(self, module: nn.Module, args: Any, output: Tensor) -> None:
        self.depth -= 1
        if self.depth == 0:
            line, kind = describe(module)
            self.note(output, Step([line], kind, tuple(output.shape), self.sources(args)))


def trace(module: nn.Module, shape: tuple[int, ...], *, depth: int | None = None) -> list[Step]:
    """Run a module and return its steps in order, the input first.

    The hooks turn the blocks plain, so what is seen is the composition that the lean paths
    stand for.

    Args:
        module: What to run.
        shape: Shape of its input.
        depth: Levels of modules to look into; None: all.
    """
    recorder = _Recorder()
    x = torch.zeros(shape)
    start = Step(["input"], "input", shape)
    recorder.note(x, start)
    with torch.no_grad(), recorder.watching(module, depth), recorder:
        module(x)
    steps = list({id(step): step for step in recorder.made.values()}.values())
    return _merge(steps)


def _merge(steps: list[Step]) -> list[Step]:
    """Join runs of layers around one computation into one box."""
    merged: list[Step] = []
    inside: dict[int, Step] = {}
    for step in steps:
        step.inputs = [inside.get(id(source), source) for source in step.inputs]
        if len(step.inputs) == 1 and _joins(step.inputs[0], step, steps, inside):
            box = step.inputs[0]
            box.lines += step.lines
            box.shape = step.shape
            box.kind = step.kind if box.kind == ELEMENTWISE else box.kind
            inside[id(step)] = box
        else:
            merged.append(step)
    return merged


def _joins(box: Step, step: Step, steps: list[Step], inside: dict[int, Step]) -> bool:
    readers = [
        other
        for other in steps
        if any(inside.get(id(source), source) is box for source in other.inputs)
        and inside.get(id(other)) is not box
    ]
    kinds = {box.kind, step.kind}
    return len(readers) == 1 and ELEMENTWISE in kinds and kinds <= {ELEMENTWISE, "compute"}
