"""The activations whose derivative is known from the sign of their output."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IDENTITY = 1.0


def negative_slope(activation: nn.Module) -> float | None:
    """The slope below zero of a ReLU, leaky ReLU or identity; None for any other activation."""
    if type(activation) is nn.Identity:
        return IDENTITY
    if type(activation) is nn.ReLU:
        return 0.0
    if type(activation) is nn.LeakyReLU:
        slope = float(activation.negative_slope)
        # Of slope 0 and 1 it is neither a ReLU nor the identity in the last bit: it multiplies.
        return slope if slope > 0.0 and slope != IDENTITY else None
    return None


def known_slope(activation: nn.Module) -> float:
    """The slope of an activation that has one.

    Raises:
        TypeError: It has none.
    """
    slope = negative_slope(activation)
    if slope is None:
        raise TypeError(f"known_slope: {type(activation).__name__} has no slope.")
    return slope


def activate(x: Tensor, slope: float, *, inplace: bool = False) -> Tensor:
    """Apply the activation of this slope, by the operator that its module would call."""
    if slope == IDENTITY:
        return x
    return F.relu(x, inplace) if slope == 0.0 else F.leaky_relu(x, slope, inplace)


def activation_backward(
    grad: Tensor, positive: Tensor, slope: float, *, overwrite: bool = False
) -> Tensor:
    """The gradient before the activation, in the memory of ``grad`` if allowed.

    Args:
        grad: Of what the activation made.
        positive: That, or anything that is above zero in the same places.
        slope: The activation's.
        overwrite: Whether ``grad`` may be written over.
    """
    if slope == IDENTITY:
        return grad
    # By the activations' own kernels, which are faster than selecting by a mask.
    positive = positive.to(grad.dtype)
    into = {"grad_input": grad} if overwrite else {}
    if slope == 0.0:
        return torch.ops.aten.threshold_backward(grad, positive, 0, **into)
    return torch.ops.aten.leaky_relu_backward(grad, positive, slope, False, **into)
