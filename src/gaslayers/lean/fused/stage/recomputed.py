"""Block, batch norm, activation and max pooling that keep the input and a byte a pooled cell.

A live batch norm's backward pass needs its input in full. Here the block computes it a second
time instead: its input is kept anyway for the gradient of its weights. Without a block the input
is what the norm reads.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gaslayers.lean.activations import known_slope
from gaslayers.lean.batch_norm import BatchNormCall, begin_call, is_batch_norm, norm_backward
from gaslayers.lean.execution import is_batch
from gaslayers.lean.fused.parts.units import Unit
from gaslayers.lean.fused.pool.choice import code_pool
from gaslayers.lean.fused.pool.kernel_pool import KernelPool
from gaslayers.lean.fused.stage.body import Body, ConvolutionBody, NoBody, read_convolution
from gaslayers.lean.modules import modules_within, reason_against_replacing
from gaslayers.lean.native import norm_pool
from gaslayers.lean.native.norm_call import LAYOUT
from gaslayers.lean.rerun import Precision, as_called, save, saved, stand_ins
from gaslayers.lean.roofline import BYTES_PER_VALUE

_FLOPS_PER_SAVED_BYTE = 1000
"""A convolution that takes more is not run again where its weight is frozen."""


@dataclasses.dataclass(frozen=True)
class _Stage:
    """What the function calls besides tensors: first the block, and then how it runs again."""

    run: Callable[[Tensor], Tensor]
    body: Body | NoBody
    convolution: ConvolutionBody | None
    call: BatchNormCall
    slope: float
    kernel_size: int
    ceil_mode: bool


class PooledStage(torch.autograd.Function):
    """A whole stage; the last arguments are the parameters that its block reads."""

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
        z = stage.run(x)
        _check_batch(z, call)
        ctx.stage = stage
        ctx.by_kernels = norm_pool.take(z, call, stage.kernel_size)
        if ctx.by_kernels:
            pooled, packed, moments = norm_pool.run(z, call, stage.slope, ceil_mode=stage.ceil_mode)
            mean, inverse_std = moments.unbind()
            kept: tuple[Tensor, ...] = (packed,)
            shared = stage.slope, stage.kernel_size, stage.ceil_mode
            ctx.pool = KernelPool(*shared, z.shape, LAYOUT)
        else:
            call.check_sizes(z.shape[1])
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
            # The norm's output decides on the layout, which for one channel may be another.
            ctx.pool = code_pool(normed, stage.slope, stage.kernel_size, ceil_mode=stage.ceil_mode)
            pooled, kept = ctx.pool.forward(normed)
        parameters = x, weight, *body_parameters
        ctx.parameter_count = len(parameters)
        # The running statistics so that a change of them before the backward pass is noticed.
        norm = mean, inverse_std, call.running_mean, call.running_var
        save(ctx, *norm, *parameters, *kept)
        return pooled

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """(N, out_channels, H' / k, W' / k) -> the input's and the parameters' gradients."""
        stage, call = ctx.stage, ctx.stage.call
        mean, inverse_std, running_mean, running_var, *rest = saved(ctx)
        count = ctx.parameter_count
        x, weight, *parameters = rest[:count]
        kept = tuple(rest[count:])
        wants_x, wants_weight, wants_bias, *wants_parameters = ctx.needs_input_grad[1:]
        wants = [wants_x, *wants_parameters]
        mask = [any(wants), wants_weight, wants_bias]
        differentiated = torch.is_grad_enabled()
        by_kernels = ctx.by_kernels and not (differentiated or is_batch(grad))
        body = (by_kernels and stage.convolution) or stage.body
        if body is stage.body:
            x, *parameters = stand_ins([x, *parameters], wants)
        z = body.run(x, parameters)
        if by_kernels:
            grad_z, grad_weight, grad_bias = norm_pool.run_backward(
                *(grad, kept[0], z.detach(), (mean, inverse_std), weight, None),
                *(stage.slope, mask),
            )
        else:
            grad_z, grad_weight, grad_bias = norm_backward(
                ctx.pool.backward(grad, kept),
                z if differentiated else z.detach(),
                weight,
                running_mean,
                running_var,
                mean,
                inverse_std,
                call.training,
                call.eps,
                mask,
            )
        grad_x, *grads = body.backward(grad_z, z, x, parameters, wants)
        return None, grad_x, grad_weight, grad_bias, *grads


def _check_batch(z: Tensor, call: BatchNormCall) -> None:
    """Refuse what `torch.nn.functional.batch_norm` refuses, which lies above the operator.

    Raises:
        ValueError: A single value a channel has no variance to train by.
    """
    if call.training and z.numel() == z.shape[1]:
        raise ValueError(
            f"Expected more than 1 value per channel when training, got input size {z.size()}"
        )


def reason_against_recomputing(body: nn.Module, norm: nn.Module, pool: nn.Module) -> str | None:
    """What speaks against `run_recomputed` for a stage of these layers; None: nothing."""
    if not is_batch_norm(norm):
        return f"{type(norm).__name__} is no BatchNorm2d"
    if type(pool) is not nn.MaxPool2d:
        return f"{type(pool).__name__} is no MaxPool2d"
    modules = modules_within(body)
    for module in modules:
        if isinstance(module, nn.BatchNorm2d | nn.Dropout):
            return f"{type(module).__name__} in the block may compute otherwise a second time"
    reason = reason_against_replacing([norm, *modules])
    if reason is not None:
        return reason
    if torch.compiler.is_compiling():
        return "the compiler cannot trace a backward pass that calls autograd"
    convolutions = [module for module in modules if type(module) is nn.Conv2d]
    if len(convolutions) == 1 and not any(p.requires_grad for p in body.parameters()):
        return _reason_against_running_again(convolutions[0])
    return None


def _reason_against_running_again(convolution: nn.Conv2d) -> str | None:
    """What speaks against running a frozen convolution again.

    The input of one that trains is kept in any case, for the gradient of its weight. That of a
    frozen one is kept to run it again, and bytes are saved only as far as it is smaller.
    """
    (height, width), (row_step, column_step) = convolution.kernel_size, convolution.stride
    pixels = 1 / (row_step * column_step)  # of the output, for one of the input
    made = pixels * convolution.out_channels
    saved_bytes = BYTES_PER_VALUE * (made - convolution.in_channels)
    macs = made * convolution.in_channels // convolution.groups * height * width
    if 2 * macs > _FLOPS_PER_SAVED_BYTE * saved_bytes:
        return "a frozen convolution is dear to run again for the bytes that this would save"
    return None


def run_recomputed(
    x: Tensor,
    body: nn.Module,
    norm: Any,
    activation: nn.Module,
    pool: Any,
    unit: Unit | None = None,
) -> Tensor:
    """Run a stage; only where `reason_against_recomputing` is None.

    Args:
        x: (N, C, H, W).
        body: What comes before the norm.
        norm: The norm.
        activation: The activation.
        pool: The pooling.
        unit: The body, where it is a convolution unit.
    """
    precision = Precision.of(x)
    convolution = None if unit is None else read_convolution(unit, precision)
    convolutions = (
        [("conv", unit.conv)]
        if unit is not None and convolution is not None
        else [(name, m) for name, m in body.named_modules() if type(m) is nn.Conv2d]
    )
    # The tensors in use, which under functional calls need not be registered parameters.
    tensors = {
        f"{name}.{leaf}".lstrip("."): tensor
        for name, module in convolutions
        for leaf in ("weight", "bias")
        if (tensor := getattr(module, leaf)) is not None
    }
    call = begin_call(norm)
    stage = _Stage(
        body,
        Body(as_called(body), tuple(tensors), precision),
        convolution,
        call,
        known_slope(activation),
        pool.kernel_size,
        pool.ceil_mode,
    )
    return PooledStage.apply(stage, x, call.weight, call.bias, *tensors.values())


def pool_normed(x: Tensor, call: BatchNormCall, activation: nn.Module, pool: Any) -> Tensor:
    """Run a stage without a block.

    Args:
        x: (N, C, H, W), what the norm reads.
        call: Of the norm, the batch counted.
        activation: The activation, of known slope.
        pool: The pooling, one that `reason_against_codes` has nothing against.
    """
    slope = known_slope(activation)
    stage = _Stage(_nothing, NoBody(), None, call, slope, pool.kernel_size, pool.ceil_mode)
    return PooledStage.apply(stage, x, call.weight, call.bias)


def _nothing(x: Tensor) -> Tensor:
    return x
