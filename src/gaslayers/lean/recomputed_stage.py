"""Block, batch norm, activation and max pooling that keep the input and a byte a pooled cell.

A live batch norm's backward pass needs its input in full. Here the block computes it a second
time instead: its input is kept anyway for the gradient of its weights.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gaslayers.lean.activations import known_slope
from gaslayers.lean.batch_norm import BatchNormCall, begin_call, is_batch_norm
from gaslayers.lean.coded_pool import code_pool
from gaslayers.lean.execution import find_hooked

# Layers that compute the same however often they are called.
_REPEATABLE = (nn.Conv2d, nn.Identity, nn.ReLU, nn.LeakyReLU, nn.Sequential, nn.ModuleList)


@dataclasses.dataclass(frozen=True)
class _Stage:
    """What the function calls besides tensors."""

    body: nn.Module
    body_names: tuple[str, ...]
    call: BatchNormCall
    slope: float
    kernel_size: int
    ceil_mode: bool


class RecomputedStage(torch.autograd.Function):
    """A whole stage; the last arguments are the parameters that it reads."""

    @staticmethod
    def forward(
        ctx: Any,
        stage: _Stage,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        *body_parameters: Tensor,
    ) -> Tensor:
        """(N, C, H, W) -> (N, out_channels, H' / k, W' / k)."""
        call = stage.call
        z = stage.body(x)
        normed, mean, inverse_std = torch.native_batch_norm(
            z,
            weight,
            bias,
            call.running_mean,
            call.running_var,
            call.training,
            call.momentum,
            call.eps,
        )
        ctx.stage = stage
        ctx.pool = code_pool(normed, stage.slope, stage.kernel_size, ceil_mode=stage.ceil_mode)
        pooled, kept = ctx.pool.forward(normed)
        ctx.save_for_backward(x, weight, mean, inverse_std, *body_parameters, *kept)
        return pooled

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """(N, out_channels, H' / k, W' / k) -> the input's and the parameters' gradients."""
        stage, call = ctx.stage, ctx.stage.call
        x, weight, mean, inverse_std, *rest = ctx.saved_tensors
        count = len(stage.body_names)
        body_parameters, kept = rest[:count], tuple(rest[count:])
        wants_x, wants_weight, wants_bias, *wants_body = ctx.needs_input_grad[1:]
        differentiated = torch.is_grad_enabled()
        # With the tensors of the forward pass, whatever the module holds by now.
        state = dict(zip(stage.body_names, body_parameters, strict=True))
        with torch.enable_grad():
            z = functional_call(stage.body, state, (x,))
        grad = ctx.pool.backward(grad, kept)
        grad_z, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
            grad,
            z if differentiated else z.detach(),
            weight,
            call.running_mean,
            call.running_var,
            mean,
            inverse_std,
            call.training,
            call.eps,
            [z.requires_grad, wants_weight, wants_bias],
        )
        wanted = [x] * wants_x + [
            parameter for parameter, wants in zip(body_parameters, wants_body, strict=True) if wants
        ]
        grads = iter(
            torch.autograd.grad(z, wanted, grad_z, create_graph=differentiated) if wanted else ()
        )
        return (
            None,
            next(grads) if wants_x else None,
            grad_weight,
            grad_bias,
            *(next(grads) if wants else None for wants in wants_body),
        )


def reason_to_keep_norm_input(body: nn.Module, norm: nn.Module, pool: nn.Module) -> str | None:
    """What speaks against `run_recomputed` for a stage of these layers; None: nothing."""
    if not is_batch_norm(norm):
        return f"{type(norm).__name__} is no BatchNorm2d"
    if type(pool) is not nn.MaxPool2d:
        return f"{type(pool).__name__} is no MaxPool2d"
    for module in body.modules():
        is_block = type(module).__module__.startswith("gaslayers.blocks.")
        if type(module) not in _REPEATABLE and not is_block:
            return f"{type(module).__name__} in the block may compute otherwise a second time"
    hooked = find_hooked([norm, *body.modules()])
    if hooked is not None:
        return f"a hook sits on an inner {type(hooked).__name__}"
    if torch.compiler.is_compiling():
        return "the compiler cannot trace a backward pass that calls autograd"
    return None


def run_recomputed(
    x: Tensor, body: nn.Module, norm: Any, activation: nn.Module, pool: Any
) -> Tensor:
    """Run a stage; only where `reason_to_keep_norm_input` is None."""
    call = begin_call(norm)
    # The tensors in use, which under functional calls need not be registered parameters.
    tensors = {
        f"{name}.{leaf}".lstrip("."): getattr(module, leaf)
        for name, module in body.named_modules()
        if type(module) is nn.Conv2d
        for leaf in ("weight", "bias")
        if getattr(module, leaf) is not None
    }
    slope = known_slope(activation)
    stage = _Stage(body, tuple(tensors), call, slope, pool.kernel_size, pool.ceil_mode)
    return RecomputedStage.apply(stage, x, call.weight, call.bias, *tensors.values())
