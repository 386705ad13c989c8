"""The least-squares GAN losses as functions (Mao et al. 2017, arXiv:1611.04076, equations 2 and 9).

The discriminator is pulled towards label ``b`` on real data and ``a`` on generated data, the
generator pulls the discriminator's scores on generated data towards ``c``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gaslayers._checks import bad_type, bad_value, check_bool, check_choice, check_float

__all__ = ["lsgan_discriminator_loss", "lsgan_generator_loss"]

REDUCTIONS = ("mean", "sum", "none")


def check_options(
    owner: str, *, reduction: str, scale: float, sigmoid: bool, **labels: float
) -> None:
    """Raise for a label, reduction, scale or switch that no LSGAN loss takes."""
    for name, value in labels.items():
        check_float(owner, name, value)
    check_choice(owner, "reduction", reduction, REDUCTIONS)
    check_float(owner, "scale", scale, above=0.0)
    check_bool(owner, "sigmoid", sigmoid)


def _as_scores(owner: str, argument: str, scores: Tensor) -> Tensor:
    """Return the scores in at least float32: squares of half-precision scores near 390 overflow."""
    if not isinstance(scores, Tensor):
        raise bad_type(owner, argument, "be a tensor", type(scores).__name__)
    if not scores.is_floating_point():
        raise bad_type(owner, argument, "be a floating-point tensor", scores.dtype)
    return scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores


def _squared_distance(scores: Tensor, label: float, *, sigmoid: bool) -> Tensor:
    return ((scores.sigmoid() if sigmoid else scores) - label).square()


def _reduce(owner: str, losses: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    if losses.numel() == 0:
        remedy = "Use reduction='sum' where a batch may be empty."
        raise bad_value(owner, "scores", "not be empty", tuple(losses.shape), remedy)
    return losses.mean()


def lsgan_discriminator_loss(
    real_scores: Tensor,
    fake_scores: Tensor,
    *,
    a: float = 0.0,
    b: float = 1.0,
    reduction: str = "mean",
    scale: float = 0.5,
    sigmoid: bool = False,
) -> Tensor:
    """Pull the scores of real data to ``b`` and of generated data to ``a``.

    ``loss = scale * reduce((real_scores - b)^2 + (fake_scores - a)^2)``.

    Args:
        real_scores: The discriminator's scores of real data.
        fake_scores: Its scores of generated data; generate them without a graph through G.
        a: Label of generated data.
        b: Label of real data.
        reduction: ``"mean"`` or ``"sum"`` over all scores, or ``"none"``.
        scale: Factor in front; the paper's is 1/2.
        sigmoid: Pass the scores through a sigmoid first, as GAS (2018) did. Where the
            sigmoid rounds to 0 or 1 its gradient is zero, and no step leaves.

    Shape:
        - real_scores, fake_scores: any one shape, the same for both.
        - Output: a scalar, or the scores' shape with ``reduction="none"``; float32 for float16
          and bfloat16 scores.

    Raises:
        TypeError: Scores that are no floating-point tensors.
        ValueError: Different shapes (they would broadcast), an unknown reduction, an empty mean.

    Note:
        Differs from the paper: nothing with the defaults; ``sigmoid`` and ``reduction="sum"``
        are other projects' conventions.

    Example:
        >>> import torch
        >>> real, fake = torch.tensor([1.3, 0.2]), torch.tensor([0.8, -0.5])
        >>> round(lsgan_discriminator_loss(real, fake).item(), 4)
        0.405

    References:
        Mao et al., Least Squares Generative Adversarial Networks, arXiv:1611.04076, equation 2.
    """
    owner = "lsgan_discriminator_loss"
    check_options(owner, reduction=reduction, scale=scale, sigmoid=sigmoid, a=a, b=b)
    real = _as_scores(owner, "real_scores", real_scores)
    fake = _as_scores(owner, "fake_scores", fake_scores)
    if real.shape != fake.shape:
        rule = f"have the shape of real_scores {tuple(real.shape)}"
        remedy = "Other shapes would broadcast to a loss over all pairs."
        raise bad_value(owner, "fake_scores", rule, tuple(fake.shape), remedy)
    on_real = _squared_distance(real, b, sigmoid=sigmoid)
    on_fake = _squared_distance(fake, a, sigmoid=sigmoid)
    return scale * _reduce(owner, on_real + on_fake, reduction)


def lsgan_generator_loss(
    fake_scores: Tensor,
    *,
    c: float = 1.0,
    reduction: str = "mean",
    scale: float = 0.5,
    sigmoid: bool = False,
) -> Tensor:
    """Pull the scores of generated data to ``c``, what the generator wants to be taken for.

    ``loss = scale * reduce((fake_scores - c)^2)``.

    Args:
        fake_scores: The discriminator's scores of generated data.
        c: The label that the generator wants.
        reduction: ``"mean"`` or ``"sum"`` over all scores, or ``"none"``.
        scale: Factor in front; the paper's is 1/2.
        sigmoid: Pass the scores through a sigmoid first, as GAS (2018) did.

    Shape:
        - fake_scores: any.
        - Output: a scalar, or the scores' shape with ``reduction="none"``; float32 for float16
          and bfloat16 scores.

    Raises:
        TypeError: Scores that are no floating-point tensor.
        ValueError: An unknown reduction, an empty mean.

    Note:
        Differs from the paper: nothing with the defaults. It is the mean of squares, not the
        square of the mean.

    Example:
        >>> import torch
        >>> lsgan_generator_loss(torch.tensor([[0.5], [1.5]]))
        tensor(0.1250)

    References:
        Mao et al., Least Squares Generative Adversarial Networks, arXiv:1611.04076, equation 2.
    """
    owner = "lsgan_generator_loss"
    check_options(owner, reduction=reduction, scale=scale, sigmoid=sigmoid, c=c)
    fake = _as_scores(owner, "fake_scores", fake_scores)
    return scale * _reduce(owner, _squared_distance(fake, c, sigmoid=sigmoid), reduction)
