"""The least-squares GAN losses as modules, with the four conventions found in the field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from gaslayers._checks import check_choice
from gaslayers.functional import check_options, lsgan_discriminator_loss, lsgan_generator_loss

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["LSGANDiscriminatorLoss", "LSGANGeneratorLoss"]

# What each convention changes, for D and for G, against the paper's defaults.
_CONVENTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "paper": ({}, {}),
    "mse": ({"scale": 1.0}, {"scale": 1.0}),
    "pytorch-gan": ({}, {"scale": 1.0}),
    "gas2018": ({"reduction": "sum", "sigmoid": True}, {"reduction": "sum", "sigmoid": True}),
}


class _LSGANLoss(nn.Module):
    """What the two losses share: the options, their check, and how they are printed."""

    _side: int
    _labels: tuple[str, ...]

    def __init__(self, *, reduction: str, scale: float, sigmoid: bool, **labels: float) -> None:
        super().__init__()
        owner = type(self).__name__
        check_options(owner, reduction=reduction, scale=scale, sigmoid=sigmoid, **labels)
        self.reduction = reduction
        self.scale = scale
        self.sigmoid = sigmoid
        for name, value in labels.items():
            setattr(self, name, value)

    def _options(self) -> dict[str, Any]:
        names = (*self._labels, "reduction", "scale", "sigmoid")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_convention(cls, convention: str) -> Self:
        """Build the loss as another project writes it.

        Args:
            convention: ``"paper"`` (mean, 1/2 on both losses; torchgan, StudioGAN), ``"mse"``
                (mean, no 1/2; mmgeneration), ``"pytorch-gan"`` (1/2 on D's loss only) or
                ``"gas2018"`` (sigmoid on the scores, sum over the batch, 1/2).

        Raises:
            ValueError: Any other name.
        """
        check_choice(cls.__name__, "convention", convention, _CONVENTIONS)
        return cls(**_CONVENTIONS[convention][cls._side])

    def extra_repr(self) -> str:
        """The arguments of the constructor call."""
        return ", ".join(f"{name}={value!r}" for name, value in self._options().items())


class LSGANDiscriminatorLoss(_LSGANLoss):
    """Pull the scores of real data to ``b`` and of generated data to ``a``.

    ``loss = scale * reduce((real_scores - b)^2 + (fake_scores - a)^2)``.

    Args:
        a: Label of generated data.
        b: Label of real data. ``a=-1, b=1`` with ``c=0`` in the generator's loss minimises the
            Pearson chi-squared divergence (the paper's equation 8: b - c = 1, b - a = 2).
        reduction: ``"mean"`` or ``"sum"`` over all scores, or ``"none"``.
        scale: Factor in front; the paper's is 1/2.
        sigmoid: Pass the scores through a sigmoid first, as GAS (2018) did.

    Shape:
        - real_scores, fake_scores: any one shape, the same for both.
        - Output: a scalar, or the scores' shape with ``reduction="none"``.

    Raises:
        TypeError: A label or scale that is no number; scores that are no floating-point tensors.
        ValueError: An unknown reduction, scores of different shapes, an empty mean.

    Note:
        Differs from the paper: nothing with the defaults.

    Example:
        >>> import torch
        >>> loss = LSGANDiscriminatorLoss(a=-1.0, b=1.0)
        >>> loss(torch.ones(4, 1), -torch.ones(4, 1))
        tensor(0.)

    References:
        Mao et al., Least Squares Generative Adversarial Networks, arXiv:1611.04076, equation 2.
    """

    _side = 0
    _labels = ("a", "b")
    a: float
    b: float

    def __init__(
        self,
        a: float = 0.0,
        b: float = 1.0,
        *,
        reduction: str = "mean",
        scale: float = 0.5,
        sigmoid: bool = False,
    ) -> None:
        super().__init__(reduction=reduction, scale=scale, sigmoid=sigmoid, a=a, b=b)

    def forward(self, real_scores: Tensor, fake_scores: Tensor) -> Tensor:
        """Scores of one shape -> scalar loss."""
        return lsgan_discriminator_loss(real_scores, fake_scores, **self._options())


class LSGANGeneratorLoss(_LSGANLoss):
    """Pull the scores of generated data to ``c``, what the generator wants to be taken for.

    ``loss = scale * reduce((fake_scores - c)^2)``.

    Args:
        c: The label that the generator wants.
        reduction: ``"mean"`` or ``"sum"`` over all scores, or ``"none"``.
        scale: Factor in front; the paper's is 1/2.
        sigmoid: Pass the scores through a sigmoid first, as GAS (2018) did.

    Shape:
        - fake_scores: any.
        - Output: a scalar, or the scores' shape with ``reduction="none"``.

    Raises:
        TypeError: A label or scale that is no number; scores that are no floating-point tensor.
        ValueError: An unknown reduction, an empty mean.

    Note:
        Differs from the paper: nothing with the defaults.

    Example:
        >>> import torch
        >>> LSGANGeneratorLoss.from_convention("mse")(torch.zeros(4, 1))
        tensor(1.)

    References:
        Mao et al., Least Squares Generative Adversarial Networks, arXiv:1611.04076, equation 2.
    """

    _side = 1
    _labels = ("c",)
    c: float

    def __init__(
        self,
        c: float = 1.0,
        *,
        reduction: str = "mean",
        scale: float = 0.5,
        sigmoid: bool = False,
    ) -> None:
        super().__init__(reduction=reduction, scale=scale, sigmoid=sigmoid, c=c)

    def forward(self, fake_scores: Tensor) -> Tensor:
        """Scores of any shape -> scalar loss."""
        return lsgan_generator_loss(fake_scores, **self._options())
