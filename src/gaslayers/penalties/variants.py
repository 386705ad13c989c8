"""Penalties by their names in papers: where the gradient is taken, and what it is measured by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gaslayers._checks import bad_type, bad_value, check_float
from gaslayers.penalties.penalty import gradient_penalty


def r1_penalty(discriminator: Callable[..., Any], real: Tensor, **options: Any) -> Any:
    r"""The mean of :math:`|\nabla_x D(x)|^2` over real samples.

    Args:
        discriminator: As for `gradient_penalty`.
        real: Real samples, batch first.
        options: As for `gradient_penalty`.

    Returns:
        As `gradient_penalty`.

    Raises:
        TypeError: As for `gradient_penalty`.
        ValueError: Likewise.

    Note:
        Differs from the paper: without its factor of half a weight.

    Example:
        >>> import torch
        >>> from gaslayers.penalties import r1_penalty
        >>> r1_penalty(torch.nn.Linear(3, 1, bias=False), torch.rand(2, 3)).shape
        torch.Size([])

    References:
        Mescheder, Geiger, Nowozin: *Which training methods for GANs do actually converge?* (2018),
        equation 9.
    """
    return gradient_penalty(discriminator, real, penalty="r1", **options)


def r2_penalty(discriminator: Callable[..., Any], fake: Tensor, **options: Any) -> Any:
    r"""The mean of :math:`|\nabla_x D(x)|^2` over generated samples.

    Args:
        discriminator: As for `gradient_penalty`.
        fake: Generated samples, batch first.
        options: As for `gradient_penalty`.

    Returns:
        As `gradient_penalty`.

    Raises:
        TypeError: As for `gradient_penalty`.
        ValueError: Likewise.

    Note:
        Differs from the paper: without its factor of half a weight.

    Example:
        >>> import torch
        >>> from gaslayers.penalties import r2_penalty
        >>> r2_penalty(torch.nn.Linear(3, 1, bias=False), torch.rand(2, 3)).shape
        torch.Size([])

    References:
        Mescheder, Geiger, Nowozin: *Which training methods for GANs do actually converge?* (2018),
        equation 10.
    """
    return gradient_penalty(discriminator, fake, penalty="r1", **options)


def wgan_gp_penalty(
    discriminator: Callable[..., Any],
    real: Tensor,
    fake: Tensor,
    *,
    generator: torch.Generator | None = None,
    **options: Any,
) -> Any:
    r"""The mean of :math:`(|\nabla_x D(x)| - 1)^2` between real and generated samples.

    Args:
        discriminator: As for `gradient_penalty`.
        real: Real samples, batch first.
        fake: Generated samples of the same shape.
        generator: Draws the place between the two, a number per sample; None: PyTorch's own.
        options: As for `gradient_penalty`.

    Returns:
        As `gradient_penalty`.

    Raises:
        TypeError: As for `gradient_penalty`.
        ValueError: Likewise, or the two differ in shape.

    Note:
        Differs from the paper: nothing, but for the weight, which is left to the caller.

    Example:
        >>> import torch
        >>> from gaslayers.penalties import wgan_gp_penalty
        >>> draw = torch.Generator().manual_seed(0)
        >>> real, fake = torch.rand(2, 4, 3)
        >>> wgan_gp_penalty(torch.nn.Linear(3, 1), real, fake, generator=draw).shape
        torch.Size([])

    References:
        Gulrajani et al.: *Improved training of Wasserstein GANs* (2017), equation 3.
    """
    owner = "wgan_gp_penalty"
    _check_samples(owner, "real", real)
    _check_samples(owner, "fake", fake)
    if real.shape != fake.shape or real.dtype != fake.dtype:
        raise bad_value(owner, "fake", f"be like `real`, {_kind(real)}", fake)
    share = _drawn((len(real), *[1] * (real.dim() - 1)), real, generator)
    mixed = torch.lerp(fake.detach(), real.detach(), share)
    return gradient_penalty(discriminator, mixed, penalty="wgan-gp", **options)


def dragan_penalty(
    discriminator: Callable[..., Any],
    real: Tensor,
    *,
    spread: float = 0.5,
    generator: torch.Generator | None = None,
    **options: Any,
) -> Any:
    r"""The mean of :math:`(|\nabla_x D(x)| - 1)^2` around real samples.

    A sample is :math:`x + (1 - a)\, c\, \sigma\, u`, where :math:`\sigma` is the standard deviation
    of all numbers of the batch, :math:`u` a number from [0, 1) per element, :math:`a` one per
    sample, and :math:`c` the spread.

    Args:
        discriminator: As for `gradient_penalty`.
        real: Real samples, batch first.
        spread: How far around, in standard deviations.
        generator: Draws the numbers; None: PyTorch's own.
        options: As for `gradient_penalty`.

    Returns:
        As `gradient_penalty`.

    Raises:
        TypeError: As for `gradient_penalty`.
        ValueError: Likewise, or ``spread`` is below 0.

    Note:
        Differs from the paper: nothing in where samples are taken by its authors' code, which the
        paper leaves open. The weight is left to the caller.

    Example:
        >>> import torch
        >>> from gaslayers.penalties import dragan_penalty
        >>> dragan_penalty(torch.nn.Linear(3, 1), torch.rand(4, 3)).shape
        torch.Size([])

    References:
        Kodali et al.: *On convergence and stability of GANs* (2017).
    """
    owner = "dragan_penalty"
    _check_samples(owner, "real", real)
    check_float(owner, "spread", spread, minimum=0.0)
    real = real.detach()
    noise = _drawn(real.shape, real, generator) * (spread * real.std())
    share = _drawn((len(real), *[1] * (real.dim() - 1)), real, generator)
    return gradient_penalty(discriminator, real + (1 - share) * noise, penalty="wgan-gp", **options)


def _drawn(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.rand(shape, dtype=like.dtype, device=like.device, generator=generator)


def _kind(tensor: Tensor) -> str:
    return f"of shape {tuple(tensor.shape)} and {tensor.dtype}"


def _check_samples(owner: str, argument: str, samples: Any) -> None:
    if not isinstance(samples, Tensor) or not samples.is_floating_point():
        raise bad_type(owner, argument, "be a floating-point tensor", samples)
    if samples.dim() == 0:
        raise bad_value(owner, argument, "have an axis of samples", samples)
