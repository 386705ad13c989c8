"""Convolution units in a row that keep their input and compute what they made of it again.

Autograd keeps, of each unit, the convolution's input and the norm's and the activation's: of a
depthwise separable convolution with ReLU and batch norm twice, seven maps of the input's size when
it widens four times. Elementwise layers are cheap to run again, from the statistics of the first
time, and so are 1x1 convolutions; `kept_maps` says which maps are kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gaslayers.lean.activations import IDENTITY
from gaslayers.lean.execution import is_batch
from gaslayers.lean.fused.parts.branch import Branch
from gaslayers.lean.fused.parts.layer import Layer
from gaslayers.lean.fused.parts.norm_activation import NormActivation
from gaslayers.lean.fused.parts.pre_activation import PreActivation
from gaslayers.lean.fused.parts.reader import Reader
from gaslayers.lean.fused.parts.units import Unit
from gaslayers.lean.layout import layout_of
from gaslayers.lean.native.norm_call import is_even
from gaslayers.lean.native.norm_choice import take

_DENSE = (torch.contiguous_format, torch.channels_last)


class _Chain(Branch):
    """Units whose output may be concatenated with others', so that its gradient is a slice."""

    def received(self, grad: Tensor, inner: Tensor) -> Tensor:
        """A copy of a slice without gaps, where PyTorch's norm reads it; else as it is.

        Its kernel for batch norm is up to eight times slower on the slice than on the copy. The
        copy is made here, where it is read, so that no caller holds it longer.
        """
        grad = super().received(grad, inner)
        last = self.following[-1]
        is_read_by_norm = last.norm is not None and not last.reads_result
        if not is_read_by_norm or torch.is_grad_enabled() or is_batch(grad):
            return grad
        is_dense = any(grad.is_contiguous(memory_format=each) for each in _DENSE)
        if is_dense or (is_even(grad) and take(grad, ())):
            return grad
        return grad.contiguous(memory_format=layout_of(inner))


def run_units(units: Sequence[Unit], x: Tensor, keep: Sequence[bool]) -> Tensor:
    """Run units in a row, as a layer with nothing in front; ``keep`` says which maps are kept."""
    reader = Reader()
    branch = reader.branch(units, keep)
    chain = _Chain(branch.convolutions, branch.following, branch.keep)
    layer = Layer(x.shape[1], NormActivation(None, IDENTITY), (chain,))
    return PreActivation.apply(layer, x.dtype, x, *reader.tensors)
