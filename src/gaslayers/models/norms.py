"""The two batch norms of GAS (2018) that are not `torch.nn.BatchNorm2d`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gaslayers._checks import is_traced
from gaslayers.lean.modules import register_known


@register_known
class FrozenNorm2d(nn.Module):
    """Scale each channel by a constant near 1: a batch norm whose training flag was never set.

    ``y = x * weight / sqrt(1 + eps)`` with ``weight ~ N(1, 0.002)``, for ever: mean 0, variance 1
    and the offset 0 were never updated. Neither trainable nor a normalisation.

    Args:
        num_features: Channels of the input.
        eps: What the layer adds to its variance of 1.
        weight_std: Standard deviation of the constant weights around 1.

    Shape:
        - Input: (N, num_features, H, W).
        - Output: the same.

    Note:
        Differs from the original: nothing (TensorLayer 1.7.3's ``BatchNormLayer`` as called).

    Example:
        >>> import torch
        >>> FrozenNorm2d(8)(torch.ones(1, 8, 1, 1)).round(decimals=1).unique()
        tensor([1.])
    """

    weight: Tensor

    def __init__(self, num_features: int, *, eps: float = 1e-5, weight_std: float = 0.002) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.weight_std = weight_std
        self.register_buffer("weight", torch.empty(num_features))
        self.reset_parameters()

    @property
    def bias(self) -> Tensor:
        """The offsets, 0 for ever: what is written into them is lost."""
        return torch.zeros_like(self.weight)

    def reset_parameters(self) -> None:
        """Draw the constant weights anew."""
        nn.init.normal_(self.weight, 1.0, self.weight_std)

    def forward(self, x: Tensor) -> Tensor:
        """(N, num_features, H, W) -> the same shape."""
        return x * self.channel_scale().view(1, -1, 1, 1)

    def channel_scale(self) -> Tensor:
        """The constant of each channel, of shape (num_features,)."""
        return self.weight * (1.0 + self.eps) ** -0.5

    def extra_repr(self) -> str:
        """The arguments of the constructor call."""
        return f"{self.num_features}, eps={self.eps}, weight_std={self.weight_std}"


def _fix_weight_at_one(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
    """Turn the trainable weight into a buffer of ones; every norm path still finds `weight`."""
    ones = torch.ones_like(norm.weight.data)
    del norm.weight
    norm.register_buffer("weight", ones)


class _Traceable(_BatchNorm):
    """A subclass of PyTorch's norms, whose forward `torch.fx` looks into, unlike theirs."""

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002  (PyTorch's name)
        if not is_traced(input):
            super()._check_input_dim(input)  # type: ignore[no-untyped-call]  # untyped


class OffsetBatchNorm1d(_Traceable, nn.BatchNorm1d):
    """Batch norm over features with a trainable offset and no trainable weight.

    Args:
        num_features: Features of the input.

    Shape:
        - Input: (N, num_features).
        - Output: the same.

    Note:
        Differs from the original: the running variance is unbiased, as everywhere in PyTorch.
        Epsilon 1e-3 and decay 0.999 are the original's (``tf.contrib.layers.batch_norm``).
    """

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features, eps=1e-3, momentum=1e-3)
        _fix_weight_at_one(self)


@register_known
class OffsetBatchNorm2d(_Traceable, nn.BatchNorm2d):
    """Batch norm over channels with a trainable offset and no trainable weight.

    Args:
        num_features: Channels of the input.

    Shape:
        - Input: (N, num_features, H, W).
        - Output: the same.

    Note:
        Differs from the original: the running variance is unbiased, as everywhere in PyTorch.
        Epsilon 1e-3 and decay 0.999 are the original's (``tf.contrib.layers.batch_norm``).
    """

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features, eps=1e-3, momentum=1e-3)
        _fix_weight_at_one(self)
