"""The least-squares GAN losses as modules, with the four conventions found in the field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from gaslayers._checks import check_choice
from gaslayers._scores import check_options
from gaslayers.functional import lsgan_discriminator_loss, lsgan_generator_loss

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

    def __init__(
        self,
        *,
        reduction: str,
        scale: float,
        sigmoid: bool,
        scale_weights: Sequence[float] | None,
        **labels: float | Tensor,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        check_options(
            owner,
            reduction=reduction,
            scale=scale,
            sigmoid=sigmoid,
            scale_weights=scale_weights,
            **labels,
        )
        self.reduction = reduction
        self.scale = _as_written(scale)
        self.sigmoid = sigmoid
        self.scale_weights = (
            None if scale_weights is None else tuple(map(_as_written, scale_weights))
        )
        for name, label in labels.items():
            if isinstance(label, Tensor):
                # It moves with the module, but a state dict holds what was learned.
                self.register_buffer(name, label.detach(), persistent=False)
            else:
                setattr(self, name, _as_written(label))

    def _options(self) -> dict[str, Any]:
        names = (*self._labels, "reduction", "scale", "sigmoid", "scale_weights")
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
        options = self._options()
        if self.scale_weights is None:
            del options["scale_weights"]
        return ", ".join(f"{name}={_show(value)}" for name, value in options.items())


def _as_written(number: float) -> float:
    """A number of NumPy's as one of Python's, which its representation rebuilds."""
    return number if type(number) is int else float(number)


def _show(value: object) -> str:
    """A tensor takes pages to print: its shape stands for it."""
    return f"<labels of shape {tuple(value.shape)}>" if isinstance(value, Tensor) else repr(value)


class LSGANDiscriminatorLoss(_LSGANLoss):
    """Pull the scores of real data to ``b`` and of generated data to ``a``.

    ``loss = scale * (reduce((real_scores - b)^2) + reduce((fake_scores - a)^2))``, and the mean of
    it over all scales where there are several, as in pix2pixHD and HiFi-GAN.

    Args:
        a: Label of generated data: a number, or a floating-point tensor with one element or with
            the scores' dimensions, each of the scores' size or 1, as (N, 1) for a label a sample.
            A tensor moves with the module and is in no state dict; it shares its memory with the
            one that was passed, and gets no gradient.
        b: Label of real data, likewise. ``a=-1, b=1`` with ``c=0`` in the generator's loss
            minimises the Pearson chi-squared divergence (the paper's equation 8: b - c = 1,
            b - a = 2).
        reduction: ``"mean"`` or ``"sum"`` over all scores of a scale, or ``"none"``.
        scale: Factor in front; the paper's is 1/2.
        sigmoid: Pass the scores through a sigmoid first, as GAS (2018) did.
        scale_weights: A weight for each scale, of which the mean over scales is the weighted one:
            they are divided by their sum, so that (1, 3) and (0.25, 0.75) are the same. None: all
            alike.

    Shape:
        - real_scores, fake_scores: any one number of dimensions, or a list or tuple of such. The
          sizes may differ, as of two batches, unless ``reduction="none"``.
        - Output: a scalar; with ``reduction="none"`` the scores' shape, or a tuple with a tensor
          for each scale.

    Raises:
        TypeError: A label, scale or weight that is none; as for
            `gaslayers.functional.lsgan_discriminator_loss`.
        ValueError: An option that cannot be; as for that function.

    Note:
        Differs from the paper: nothing with the defaults.

    Example:
        >>> import torch
        >>> loss = LSGANDiscriminatorLoss(a=-1.0, b=1.0)
        >>> loss(torch.ones(4, 1), -torch.ones(4, 1))
        tensor(0.)
        >>> soft = LSGANDiscriminatorLoss(b=torch.tensor([[0.9], [0.7]]))  # a label a sample
        >>> soft(torch.ones(2, 1), torch.zeros(2, 1))
        tensor(0.0250)

    References:
        Mao et al., Least Squares Generative Adversarial Networks, arXiv:1611.04076, equation 2.
    """

    _side = 0
    _labels = ("a", "b")
    a: float | Tensor
    b: float | Tensor

    def __init__(
        self,
        a: float | Tensor = 0.0,
        b: float | Tensor = 1.0,
        *,
        reduction: str = "mean",
        scale: float = 0.5,
        sigmoid: bool = False,
        scale_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(
            reduction=reduction,
            scale=scale,
            sigmoid=sigmoid,
            scale_weights=scale_weights,
            a=a,
            b=b,
        )

    def forward(
        self, real_scores: Tensor | Sequence[Tensor], fake_scores: Tensor | Sequence[Tensor]
    ) -> Tensor | tuple[Tensor, ...]:
        """Scores, or a list or tuple of them by scale -> scalar loss."""
        return lsgan_discriminator_loss(real_scores, fake_scores, **self._options())


class LSGANGeneratorLoss(_LSGANLoss):
    """Pull the scores of generated data to ``c``, what the generator wants to be taken for.

    ``loss = scale * reduce((fake_scores - c)^2)``.

    Args:
        c: The label that the generator wants: a number or a tensor, as for
            `LSGANDiscriminatorLoss`.
        reduction: ``"mean"`` or ``"sum"`` over all scores of a scale, or ``"none"``.
        scale: Factor in front; the paper's is 1/2.
        sigmoid: Pass the scores through a sigmoid first, as GAS (2018) did.
        scale_weights: A weight for each scale, as for `LSGANDiscriminatorLoss`.

    Shape:
        - fake_scores: any, or a list or tuple of such.
        - Output: a scalar; with ``reduction="none"`` the scores' shape, or a tuple with a tensor
          for each scale.

    Raises:
        TypeError: A label, scale or weight that is none; as for
            `gaslayers.functional.lsgan_generator_loss`.
        ValueError: An option that cannot be; as for that function.

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
    c: float | Tensor

    def __init__(
        self,
        c: float | Tensor = 1.0,
        *,
        reduction: str = "mean",
        scale: float = 0.5,
        sigmoid: bool = False,
        scale_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(
            reduction=reduction, scale=scale, sigmoid=sigmoid, scale_weights=scale_weights, c=c
        )

    def forward(self, fake_scores: Tensor | Sequence[Tensor]) -> Tensor | tuple[Tensor, ...]:
        """Scores, or a list or tuple of them by scale -> scalar loss."""
        return lsgan_generator_loss(fake_scores, **self._options())
