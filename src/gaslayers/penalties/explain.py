"""Which way a gradient penalty takes, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from gaslayers._watching import watches_only
from gaslayers.lean.engine.aside import reason_of_others
from gaslayers.lean.modules import copied, tensors_of
from gaslayers.penalties.penalty import Score, check_call, chosen_scores, reason_of_hooks
from gaslayers.penalties.report import PenaltyReport, SmoothOperator
from gaslayers.penalties.tape import Edge, Tape


class _Explaining(Tape):
    """Notes every operator without a twin, and goes on."""

    def __init__(self, x: Tensor) -> None:
        super().__init__(x)
        self.module = ""
        self.smooth: list[SmoothOperator] = []

    def refuse(self, operator: str, reason: str, edges: Sequence[Edge | None]) -> int | None:
        self.smooth.append(SmoothOperator(module=self.module, operator=operator, reason=reason))
        numbers = [self.add(edge) for edge in edges if edge is not None]
        return numbers[0] if numbers else None

    def meet(self, func: Callable[..., Any], args: Any, kwargs: Any, result: Any) -> None:
        super().meet(func, args, kwargs, result)
        for tensor in tensors_of(result):  # what it made of the input is asked for now
            self.number(tensor)

    @contextmanager
    def watching(self, root: nn.Module) -> Iterator[None]:
        """Follow which module runs."""
        names = {part: name for name, part in root.named_modules()}
        stack = [""]

        @watches_only
        def enter(part: nn.Module, _: Any) -> None:
            stack.append(names.get(part, self.module))
            self.module = stack[-1]

        @watches_only
        def leave(_: nn.Module, __: Any, ___: Any) -> None:
            stack.pop()
            self.module = stack[-1]

        with ExitStack() as hooks:
            hooks.callback(register_module_forward_pre_hook(enter).remove)
            hooks.callback(register_module_forward_hook(leave, always_call=True).remove)
            yield


def explain_penalty(
    discriminator: Callable[..., Any],
    x: Tensor,
    *,
    inputs: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    score: Score | None = None,
) -> PenaltyReport:
    """Say which way `gradient_penalty` takes for a discriminator here, and why.

    A module is copied, so that its statistics stay as they are; random numbers do in any case. Any
    other callable is called once.

    Args:
        discriminator: As for `gradient_penalty`.
        x: Likewise.
        inputs: Likewise.
        kwargs: Likewise.
        score: Likewise.

    Raises:
        TypeError: As for `gradient_penalty`.
        ValueError: Likewise.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from gaslayers.penalties import explain_penalty
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.LeakyReLU(0.2))
        >>> print(explain_penalty(network, torch.rand(2, 3, 8, 8)))
        double backward: 1 of 3 operators have no linear twin
        - batch_norm in 1 is not linear in what depends on the input, not even piece by piece
    """
    owner = "explain_penalty"
    check_call(owner, discriminator, x, score, inputs)
    devices = [x.device] if x.device.type == "cuda" else []
    with torch.enable_grad(), torch.random.fork_rng(devices=devices):
        reason = reason_of_others() or reason_of_hooks(discriminator)
        if reason is not None:
            return PenaltyReport(method="double backward", operators=0, smooth=(), reason=reason)
        leaf = x.detach().requires_grad_()
        run = copied(discriminator) if isinstance(discriminator, nn.Module) else discriminator
        with ExitStack() as stack:
            tape = stack.enter_context(_Explaining(leaf))
            if isinstance(run, nn.Module):
                stack.enter_context(tape.watching(run))
            made = run(leaf, *inputs, **(kwargs or {}))
            tape.outputs(chosen_scores(owner, made, score))
    count = len(tape.entries)
    if tape.smooth:
        total = count + len(tape.smooth)
        reason = f"{len(tape.smooth)} of {total} operators have no linear twin"
        method = "double backward"
    else:
        reason, method = f"each of {count} operators has a linear twin", "linearised"
    return PenaltyReport(method=method, operators=count, smooth=tuple(tape.smooth), reason=reason)
