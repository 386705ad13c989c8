"""Which branches of a dense layer run as one convolution.

Kernels that fill their vectors but in part take as long with more channels, and calling an operator
takes its time, so that a 1x1 beside a 3x3 of few channels costs little. The joined kernel is
made anew in the backward pass: what is kept does not depend on the choice, which is the machine's.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from gaslayers.lean.convolution import ConvolutionGeometry
from gaslayers.lean.fused.inception.composition_cost import joining_pays, vector_of
from gaslayers.lean.fused.parts.branch import Branch
from gaslayers.lean.fused.parts.convolution import Convolution


def join_branches(branches: Sequence[Branch], tensors: Sequence[Tensor]) -> Branch | None:
    """The branches as one, where these are bare convolutions and that pays; else None.

    Args:
        branches: Side by side, in the order of their channels.
        tensors: By slot, those that they compute with.
    """
    convolutions = [branch.convolutions[0] for branch in branches]
    are_bare = all(
        len(branch.convolutions) == 1
        and branch.following[0].is_identity
        and branch.convolutions[0].geometry.groups == 1
        for branch in branches
    )
    if len(branches) == 1 or not are_bare:
        return None
    weights = [tensors[convolution.kernels[0].weight] for convolution in convolutions]
    sizes = tuple(weight.shape[3] for weight in weights)
    largest = convolutions[sizes.index(max(sizes))].geometry
    kernels = []
    for convolution, weight in zip(convolutions, weights, strict=True):
        offset = _offset_in(largest, max(sizes), convolution.geometry, weight)
        if offset is None:
            return None
        kernels.append(convolution.kernels[0]._replace(offset=offset))
    pays = joining_pays(
        tuple(weight.shape[0] for weight in weights),
        sizes,
        in_channels=weights[0].shape[1],
        vector=vector_of(weights[0]),
    )
    if not pays:
        return None
    joined = Convolution(largest, tuple(kernels))
    return Branch((joined,), branches[0].following[:1], branches[0].keep[:1])


def _offset_in(
    larger: ConvolutionGeometry, largest_size: int, own: ConvolutionGeometry, weight: Tensor
) -> int | None:
    """Where a kernel's first cell lies among those of the largest; None: it does not fit."""
    height, width = weight.shape[2:]
    is_square = height == width and len({*own.padding}) == len({*larger.dilation}) == 1
    if not is_square or (width > 1 and own.dilation != larger.dilation):
        return None
    offset = own.offset_in(larger)
    if offset is None or own.shrinks_by((width,) * 2) != larger.shrinks_by((largest_size,) * 2):
        return None
    return offset if 0 <= offset <= largest_size - width else None
