"""One convolution unit of a chain: its forward pass in two halves, again, and backward.

A unit is a convolution, a norm and an activation in either order. Its *map* is what a backward
pass cannot do without and cannot cheaply compute from anything else: the norm's input, or where
there is no norm the output.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from gaslayers.lean.activations import IDENTITY, activate
from gaslayers.lean.batch_norm import BatchNormCall, check_lines, norm_backward
from gaslayers.lean.layout import in_told_strides, layout_of
from gaslayers.lean.native import norm as native_norm
from gaslayers.lean.native.norm_choice import take_call
from gaslayers.lean.padding import crop_to, pad_what_is_read

Tensors: TypeAlias = Sequence[Any]
"""Weight and bias of convolution and norm, and the running mean and variance, or None each."""

_DENSE = (torch.contiguous_format, torch.channels_last)

TENSOR_COUNT = 6
TRAINABLE_COUNT = 4


@dataclasses.dataclass(frozen=True)
class Statistics:
    """How a batch norm takes its statistics.

    Args:
        training: Whether they are the batch's.
        momentum: Share of the batch's statistics in the running ones.
        eps: Added to the variance.
    """

    training: bool
    momentum: float
    eps: float

    def call(self, own: Tensors) -> BatchNormCall:
        """The norm's call, with the tensors of its unit."""
        weight, bias, mean, var = own[2:]
        return BatchNormCall(weight, bias, mean, var, self.training, self.momentum, self.eps)


@dataclasses.dataclass(frozen=True)
class UnitStep:
    """A unit without its tensors.

    Args:
        stride: Stride of the convolution.
        padding: Zeros that the convolution adds at each end.
        dilation: Spacing of its kernel's cells.
        groups: Its groups.
        extra_padding: Zeros put at the bottom and right beforehand.
        slope: The activation's slope below zero.
        norm: The norm, or None.
        norm_first: Whether there is a norm and it precedes the activation.
    """

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    extra_padding: int
    slope: float
    norm: Statistics | None
    norm_first: bool

    @property
    def activates_first(self) -> bool:
        """Whether the activation's result is the map."""
        return self.slope != IDENTITY and not self.norm_first

    @property
    def is_bare(self) -> bool:
        """Whether the unit is a convolution and nothing else."""
        return self.norm is None and self.slope == IDENTITY

    @property
    def activates_last(self) -> bool:
        """Whether the activation's result is the output and not the map."""
        return self.slope != IDENTITY and self.norm_first

    @property
    def _last_slope(self) -> float:
        return self.slope if self.activates_last else IDENTITY

    def takes_kernels(self, x: Tensor, own: Tensors) -> bool:
        """Whether kernels of our own normalise this map."""
        norm = self.norm
        return norm is not None and take_call(x, norm.call(own))

    def _pad(self, x: Tensor) -> Tensor:
        extra = self.extra_padding
        return pad_what_is_read(x, extra, self.stride) if extra else x

    def _convolve(self, x: Tensor, own: Tensors) -> Tensor:
        weight, bias = own[:2]
        return F.conv2d(
            self._pad(x), weight, bias, self.stride, self.padding, self.dilation, self.groups
        )

    def _activate_(self, x: Tensor) -> Tensor:
        if self.slope == IDENTITY:
            return x
        return F.relu_(x) if self.slope == 0.0 else F.leaky_relu_(x, self.slope)

    def make_map(self, x: Tensor, own: Tensors) -> Tensor:
        """(N, C, H, W) -> the unit's map, (N, out_channels, H', W'), new memory."""
        x = self._convolve(x, own)
        return x if self.norm_first else self._activate_(x)

    def finish(self, x: Tensor, own: Tensors) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The map -> the output, and the batch's mean and inverse standard deviation.

        Moves the running statistics.
        """
        if self.norm is None:
            return x, None, None
        norm = self.norm
        weight, bias, mean, var = own[2:]
        call = norm.call(own)
        if take_call(x, call):
            _, y, moments = native_norm.run(x, call, slope_behind=self._last_slope)
            return y, *moments
        call.check_sizes(x.shape[1])
        y, mean, inverse_std = torch.native_batch_norm(
            x, weight, bias, mean, var, norm.training, norm.momentum, norm.eps
        )
        return self._activate_(y) if self.norm_first else y, mean, inverse_std

    def finish_again(self, x: Tensor, own: Tensors, statistics: Tensors) -> Tensor:
        """The map -> the output, bit for bit, by the statistics that `finish` returned."""
        if self.norm is None:
            return x
        weight, bias, mean, var = own[2:]
        eps = self.norm.eps
        if self.takes_kernels(x, own):
            return native_norm.normalize(x, statistics, weight, bias, self._last_slope)
        if self.norm.training:
            mean, inverse_std = statistics
            # The kernel folds both factors of a channel into one; here they come folded.
            weight = inverse_std if weight is None else inverse_std * weight
            var, eps = torch.ones_like(mean), 0.0
        check_lines(x.shape[1], weight=weight, bias=bias, running_mean=mean, running_var=var)
        y, _, _ = torch.native_batch_norm(x, weight, bias, mean, var, False, 0.0, eps)
        return self._activate_(y) if self.norm_first else y

    def run_to_map(self, x: Tensor, own: Tensors, known: Tensor | None) -> Tensor:
        """As `make_map`, by differentiable operators, or with the map that is known."""
        if known is not None:
            return KnownMap.apply(self, known, x, *own[:2])
        x = self._convolve(x, own)
        return x if self.norm_first else activate(x, self.slope)

    def run_from_map(self, x: Tensor, own: Tensors) -> Tensor:
        """The map -> the output by differentiable operators; the running statistics stay."""
        if self.norm is None:
            return x
        weight, bias, mean, var = own[2:]
        if self.norm.training:
            mean = var = None
        x = in_told_strides(x)  # for the backward pass of this operator, too
        x = F.batch_norm(x, mean, var, weight, bias, self.norm.training, 0.0, self.norm.eps)
        return activate(x, self.slope) if self.norm_first else x

    def backward_activation(self, grad: Tensor, result: Tensor, *, in_place: bool) -> Tensor:
        """The gradient before the activation, from its result."""
        into = {"grad_input": grad} if in_place else {}
        if self.slope == 0.0:
            return torch.ops.aten.threshold_backward(grad, result, 0, **into)
        return torch.ops.aten.leaky_relu_backward(grad, result, self.slope, True, **into)

    def backward_norm(
        self, grad: Tensor, x: Tensor, own: Tensors, statistics: Tensors, mask: list[bool]
    ) -> list[Tensor | None]:
        """Gradients of the norm's input, weight and bias, those that ``mask`` asks for."""
        if self.norm is None:
            return [grad, None, None]
        # What concatenation hands back is a slice, on which PyTorch's kernel is up to eight times
        # slower than on a copy of it.
        if not any(grad.is_contiguous(memory_format=layout) for layout in _DENSE):
            grad = grad.contiguous(memory_format=layout_of(x))
        weight, _, mean, var = own[2:]
        return norm_backward(
            grad, x, weight, mean, var, *statistics, self.norm.training, self.norm.eps, mask
        )

    def backward_by_kernels(
        self,
        grad: Tensor,
        x: Tensor,
        own: Tensors,
        statistics: Tensors,
        mask: Sequence[bool],
        *,
        in_place: bool,
    ) -> Sequence[Tensor | None]:
        """As `backward_norm`, with both activations; only where `takes_kernels` says so."""
        return native_norm.normalize_backward(
            grad,
            x,
            statistics,
            *own[2:4],
            slope_before=self.slope if self.activates_first else IDENTITY,
            slope_behind=self._last_slope,
            wanted=mask,
            overwrite=in_place,
        )

    def backward_convolution(
        self, grad: Tensor, x: Tensor, own: Tensors, mask: list[bool]
    ) -> list[Tensor | None]:
        """Gradients of the convolution's input, weight and bias, those that ``mask`` asks for."""
        weight, bias = own[:2]
        grad_x, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
            grad,
            self._pad(x),
            weight,
            None if bias is None else list(bias.shape),
            self.stride,
            self.padding,
            self.dilation,
            False,
            [0, 0],
            self.groups,
            mask,
        )
        if grad_x is not None and self.extra_padding:
            grad_x = crop_to(grad_x, x.shape)
        return [grad_x, grad_weight, grad_bias]


class KnownMap(torch.autograd.Function):
    """A map that was kept, as a function of what it was made from.

    Under a gradient penalty the graph holds what units made. A second copy of what was kept would
    lift the peak above that of the plain composition.
    """

    @staticmethod
    def forward(
        ctx: Any, step: UnitStep, made: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        """(N, out_channels, H', W') -> the same, in the same memory."""
        ctx.step = step
        ctx.save_for_backward(x, weight, bias, made if step.activates_first else None)
        return made.detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """(N, out_channels, H', W') -> the gradients of input, weight and bias."""
        x, weight, bias, activated = ctx.saved_tensors
        if activated is not None:
            grad = ctx.step.backward_activation(grad, activated, in_place=False)
        wants = list(ctx.needs_input_grad[2:])
        return None, None, *ctx.step.backward_convolution(grad, x, (weight, bias), wants)
