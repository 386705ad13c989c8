"""The gradient penalties that a prediction knows by their names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

Penalty: TypeAlias = Callable[[Callable[..., Any], Any, Tensor], Tensor]
"""Makes a scalar of the discriminator, the real batch as it was given, and generated images."""


def _split(real: Any) -> tuple[Tensor, tuple[Any, ...]]:
    """Images, and what else the discriminator takes."""
    return (real[0], real[1:]) if type(real) is tuple else (real, ())


def _gradient(discriminator: Callable[..., Any], images: Tensor, others: tuple[Any, ...]) -> Tensor:
    """The gradient of each score by its image, as a row a sample, with a graph of its own."""
    scores = discriminator(images, *others)
    (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return gradient.flatten(1)


def _r1(discriminator: Callable[..., Any], real: Any, _fake: Tensor) -> Tensor:
    """The mean over real images of the squared norm (Mescheder et al., 2018)."""
    images, others = _split(real)
    gradient = _gradient(discriminator, images.detach().requires_grad_(), others)
    return gradient.square().sum(1).mean()


def _wgan_gp(discriminator: Callable[..., Any], real: Any, fake: Tensor) -> Tensor:
    """The mean over mixed images of the squared distance of the norm from 1 (Gulrajani, 2017)."""
    images, others = _split(real)
    share = torch.rand(len(images), *[1] * (images.dim() - 1), dtype=fake.dtype, device=fake.device)
    mixed = torch.lerp(fake, images, share).requires_grad_()
    gradient = _gradient(discriminator, mixed, others)
    return (gradient.norm(2, 1) - 1).square().mean()


PENALTIES: dict[str, Penalty] = {"r1": _r1, "wgan-gp": _wgan_gp}
