"""The least-squares GAN losses as functions (Mao et al. 2017, arXiv:1611.04076, equations 2 and 9).

The discriminator is pulled towards label ``b`` on real data and ``a`` on generated data, the
generator pulls the discriminator's scores on generated data towards ``c``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

from torch import Tensor

from gaslayers._scores import (
    check_options,
    join_scales,
    read_pair,
    read_scales,
    reduce_both,
    reduce_one,
    squared_distance,
)

__all__ = ["lsgan_discriminator_loss", "lsgan_generator_loss"]


@overload
def lsgan_discriminator_loss(
    real_scores: Tensor,
    fake_scores: Tensor,
    *,
    a: float | Tensor = ...,
    b: float | Tensor = ...,
    reduction: str = ...,
    scale: float = ...,
    sigmoid: bool = ...,
    scale_weights: Sequence[float] | None = ...,
) -> Tensor: ...


@overload
def lsgan_discriminator_loss(
    real_scores: Tensor | Sequence[Tensor],
    fake_scores: Tensor | Sequence[Tensor],
    *,
    a: float | Tensor = ...,
    b: float | Tensor = ...,
    reduction: str = ...,
    scale: float = ...,
    sigmoid: bool = ...,
    scale_weights: Sequence[float] | None = ...,
) -> Any: ...


def lsgan_discriminator_loss(
    real_scores: Tensor | Sequence[Tensor],
    fake_scores: Tensor | Sequence[Tensor],
    *,
    a: float | Tensor = 0.0,
    b: float | Tensor = 1.0,
    reduction: str = "mean",
    scale: float = 0.5,
    sigmoid: bool = False,
    scale_weights: Sequence[float] | None = None,
) -> Tensor | tuple[Tensor, ...]:
    """Pull the scores of real data to ``b`` and of generated data to ``a``.

    ``loss = scale * (reduce((real_scores - b)^2) + reduce((fake_scores - a)^2))``, and the mean of
    it over all scales where there are several, as in pix2pixHD and HiFi-GAN.

    Args:
        real_scores: The discriminator's scores of real data; of several scales, a list or tuple.
        fake_scores: Its scores of generated data; generate them without a graph through G.
        a: Label of generated data: a number, or a floating-point tensor with one element or with
            the scores' dimensions, each of the scores' size or 1, as (N, 1) for a label a sample.
        b: Label of real data, likewise.
        reduction: ``"mean"`` or ``"sum"`` over all scores of a scale, or ``"none"``.
        scale: Factor in front; the paper's is 1/2.
        sigmoid: Pass the scores through a sigmoid first, as GAS (2018) did. Where the
            sigmoid rounds to 0 or 1 its gradient is zero, and no step leaves.
        scale_weights: A weight for each scale, of which the mean over scales is the weighted one:
            they are divided by their sum, so that (1, 3) and (0.25, 0.75) are the same. None: all
            alike.

    Shape:
        - real_scores, fake_scores: any one number of dimensions. The sizes may differ, as of two
          batches, unless ``reduction="none"``: each is averaged by itself.
        - Output: a scalar; with ``reduction="none"`` the scores' shape, or a tuple with a tensor
          for each scale. float32 for scores of fewer bits.

    Raises:
        TypeError: Scores that are no floating-point tensors nor a flat list or tuple of them; a
            label or weight that is none.
        ValueError: Real and generated scores with other numbers of scales or dimensions, or on
            other devices; a label that would broadcast the scores; an unknown reduction; an empty
            mean; weights that are not one a scale, are negative or all 0, or stand beside
            ``reduction="none"``.

    Note:
        Differs from the paper: nothing with the defaults; ``sigmoid`` and ``reduction="sum"``
        are other projects' conventions. Some sum over scales where this takes the mean: raise
        ``scale`` by their number for that.

    Example:
        >>> import torch
        >>> real, fake = torch.tensor([1.3, 0.2]), torch.tensor([0.8, -0.5])
        >>> round(lsgan_discriminator_loss(real, fake).item(), 4)
        0.405
        >>> coarse = torch.ones(2, 1, 4, 4)
        >>> lsgan_discriminator_loss(
        ...     [torch.ones(2, 1, 8, 8), coarse], [torch.zeros(3, 1, 8, 8), coarse]
        ... )
        tensor(0.2500)

    References:
        Mao et al., Least Squares Generative Adversarial Networks, arXiv:1611.04076, equation 2.
    """
    owner = "lsgan_discriminator_loss"
    check_options(
        owner,
        reduction=reduction,
        scale=scale,
        sigmoid=sigmoid,
        scale_weights=scale_weights,
        a=a,
        b=b,
    )
    real, fake = read_pair(owner, real_scores, fake_scores)
    losses = [
        float(scale)
        * reduce_both(
            owner,
            squared_distance(owner, on_real, "b", b, sigmoid=sigmoid),
            squared_distance(owner, on_fake, "a", a, sigmoid=sigmoid),
            reduction,
        )
        for on_real, on_fake in zip(real, fake, strict=True)
    ]
    is_one = isinstance(real_scores, Tensor)
    return join_scales(owner, losses, reduction, scale_weights, is_one=is_one)


@overload
def lsgan_generator_loss(
    fake_scores: Tensor,
    *,
    c: float | Tensor = ...,
    reduction: str = ...,
    scale: float = ...,
    sigmoid: bool = ...,
    scale_weights: Sequence[float] | None = ...,
) -> Tensor: ...


@overload
def lsgan_generator_loss(
    fake_scores: Tensor | Sequence[Tensor],
    *,
    c: float | Tensor = ...,
    reduction: str = ...,
    scale: float = ...,
    sigmoid: bool = ...,
    scale_weights: Sequence[float] | None = ...,
) -> Any: ...


def lsgan_generator_loss(
    fake_scores: Tensor | Sequence[Tensor],
    *,
    c: float | Tensor = 1.0,
    reduction: str = "mean",
    scale: float = 0.5,
    sigmoid: bool = False,
    scale_weights: Sequence[float] | None = None,
) -> Tensor | tuple[Tensor, ...]:
    """Pull the scores of generated data to ``c``, what the generator wants to be taken for.

    ``loss = scale * reduce((fake_scores - c)^2)``, and the mean of it over all scales where there
    are several.

    Args:
        fake_scores: The discriminator's scores of generated data; of several scales, a list or
            tuple.
        c: The label that the generator wants: a number, or a floating-point tensor with one
            element or with the scores' dimensions, each of the scores' size or 1.
        reduction: ``"mean"`` or ``"sum"`` over all scores of a scale, or ``"none"``.
        scale: Factor in front; the paper's is 1/2.
        sigmoid: Pass the scores through a sigmoid first, as GAS (2018) did.
        scale_weights: As for `lsgan_discriminator_loss`.

    Shape:
        - fake_scores: any.
        - Output: a scalar; with ``reduction="none"`` the scores' shape, or a tuple with a tensor
          for each scale. float32 for scores of fewer bits.

    Raises:
        TypeError: As for `lsgan_discriminator_loss`.
        ValueError: As for `lsgan_discriminator_loss`.

    Note:
        Differs from the paper: nothing with the defaults. It is the mean of squares, not the
        square of the mean.

    Example:
        >>> import torch
        >>> lsgan_generator_loss(torch.tensor([[0.5], [1.5]]))
        tensor(0.1250)
        >>> lsgan_generator_loss([torch.zeros(2, 1), torch.ones(2, 1)], scale_weights=(1, 3))
        tensor(0.1250)

    References:
        Mao et al., Least Squares Generative Adversarial Networks, arXiv:1611.04076, equation 2.
    """
    owner = "lsgan_generator_loss"
    check_options(
        owner,
        reduction=reduction,
        scale=scale,
        sigmoid=sigmoid,
        scale_weights=scale_weights,
        c=c,
    )
    losses = [
        float(scale)
        * reduce_one(
            owner,
            "fake_scores",
            squared_distance(owner, scores, "c", c, sigmoid=sigmoid),
            reduction,
        )
        for scores in read_scales(owner, "fake_scores", fake_scores)
    ]
    is_one = isinstance(fake_scores, Tensor)
    return join_scales(owner, losses, reduction, scale_weights, is_one=is_one)
