"""Convolution units in a row that keep their input and compute what they made of it again.

Autograd keeps, of each unit, the convolution's input and the norm's and the activation's: of a
depthwise separable convolution with ReLU and batch norm twice, seven maps of the input's size when
it widens four times. Elementwise layers are cheap to run again, from the statistics of the first
time, and so are 1x1 convolutions; `kept_maps` says which maps are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gaslayers.lean.activations import IDENTITY
from gaslayers.lean.execution import is_batch
from gaslayers.lean.fused.parts.layer import Layer
from gaslayers.lean.fused.parts.norm_activation import NormActivation
from gaslayers.lean.fused.parts.pre_activation import PreActivation
from gaslayers.lean.fused.parts.reader import Reader
from gaslayers.lean.fused.parts.units import Unit
from gaslayers.lean.layout import layout_of
from gaslayers.lean.native.norm_call import is_even
from gaslayers.lean.native.norm_choice import take

_DENSE = (torch.contiguous_format, torch.channels_last)


class UnitChain(PreActivation):
    """Units in a row, as a layer with nothing in front."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        """(N, C, H, W) -> (N, out_channels, H', W')."""
        y = PreActivation.forward(ctx, *arguments)
        ctx.layout = layout_of(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """(N, out_channels, H', W') -> the gradients of the input and of the tensors."""
        last = ctx.layer.branches[0].following[-1]
        is_read_by_norm = last.norm is not None and not last.reads_result
        if is_read_by_norm and not (torch.is_grad_enabled() or is_batch(grad)):
            grad = _without_gaps(grad, ctx.layout)
        return PreActivation.backward(ctx, grad)


def _without_gaps(grad: Tensor, layout: torch.memory_format) -> Tensor:
    """A copy of a slice, as concatenation hands it back, where no kernel of ours reads it.

    PyTorch's kernel for batch norm is up to eight times slower on the slice than on the copy.
    """
    is_dense = any(grad.is_contiguous(memory_format=each) for each in _DENSE)
    if is_dense or (is_even(grad) and take(grad, ())):
        return grad
    return grad.contiguous(memory_format=layout)


def run_units(units: Sequence[Unit], x: Tensor, keep: Sequence[bool]) -> Tensor:
    """Run units in a row, their maps kept where ``keep`` says so."""
    reader = Reader()
    branch = reader.branch(units, keep)
    nothing = NormActivation(None, IDENTITY)
    return UnitChain.apply(Layer(x.shape[1], nothing, (branch,)), x.dtype, x, *reader.tensors)
