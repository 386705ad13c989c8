"""How wide a discriminator may be for its training step to fit a budget of memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

from gaslayers._checks import (
    bad_type,
    bad_value,
    check_choice,
    check_int,
    check_memory_efficient,
)
from gaslayers._typing import MemoryEfficient
from gaslayers.accounting import peak_memory
from gaslayers.losses import LSGANDiscriminatorLoss
from gaslayers.models import CASES, VARIANTS, build_discriminator
from gaslayers.study.discriminator_step import DiscriminatorStep

_OWNER = "fit_base_filters"
_MOST = 2**50
"""Bytes of a budget, or numbers in a batch: more than any memory holds."""
_T = TypeVar("_T")


@dataclass(frozen=True)
class Fit:
    """The widest discriminator of a case whose D step fits a budget.

    Args:
        case: The case that it is a version of.
        base_filters: Its filters in the first stage.
        params: Its parameters.
        peak_bytes: Tensor peak of its D step.
        next_peak_bytes: That of the next wider one, which is above the budget.
        budget_bytes: What was asked for.
    """

    case: str
    base_filters: int
    params: int
    peak_bytes: int
    next_peak_bytes: int
    budget_bytes: int


def fit_base_filters(
    case: str,
    *,
    budget_bytes: int,
    variant: str = "as_coded",
    batch_size: int = 32,
    in_channels: int = 1,
    image_size: int = 28,
    memory_efficient: MemoryEfficient = True,
    optimizer: type[torch.optim.Optimizer] | None = torch.optim.RMSprop,
) -> Fit:
    """Find the most base filters with which a D step's tensors fit a budget, training nothing.

    The step holds D's parameters, gradients and optimiser state, a batch of real and one of
    generated images, and what both passes through D keep. The generator is not in it.

    Args:
        case: One of `gaslayers.models.CASES`.
        budget_bytes: What the tensor peak may be.
        variant: As for `gaslayers.models.build_discriminator`.
        batch_size: Images in each of the two batches.
        in_channels: Channels of the images.
        image_size: Height and width of the images.
        memory_efficient: As for `gaslayers.models.build_discriminator`.
        optimizer: Of D; None: no update.

    Raises:
        TypeError: A size that is no int.
        ValueError: An unknown case, a size below 1, a budget that not even two filters fit, or one
            that is filled by more than this machine has addresses for.

    Example:
        >>> fit = fit_base_filters("inception_8", budget_bytes=2**20, batch_size=8)
        >>> fit.peak_bytes <= 2**20 < fit.next_peak_bytes
        True
    """
    check_choice(_OWNER, "case", case, CASES)
    check_choice(_OWNER, "variant", variant, VARIANTS)
    check_memory_efficient(_OWNER, memory_efficient)
    check_int(_OWNER, "budget_bytes", budget_bytes)
    if budget_bytes > _MOST:
        raise bad_value(_OWNER, "budget_bytes", "be <= 2^50", budget_bytes)
    check_int(_OWNER, "batch_size", batch_size)
    check_int(_OWNER, "in_channels", in_channels)
    check_int(_OWNER, "image_size", image_size, minimum=16)
    shape = (batch_size, in_channels, image_size, image_size)
    if math.prod(shape) > _MOST:
        raise bad_value(_OWNER, "batch_size", "make at most 2^50 numbers of images", batch_size)
    if optimizer is not None and not callable(optimizer):
        raise bad_type(_OWNER, "optimizer", "be a class of optimisers or None", optimizer)

    def build(filters: int) -> nn.Module:
        with torch.device("meta"):
            network = build_discriminator(
                case,
                variant=variant,
                base_filters=filters,
                in_channels=in_channels,
                image_size=image_size,
                memory_efficient=memory_efficient,
            )
        return _without_values(network)

    images = _reserve("batch_size", batch_size, lambda: torch.empty(shape))

    def peak(pairs: int) -> int:
        """Of two filters a pair: every case takes even numbers."""
        network = _reserve("budget_bytes", budget_bytes, lambda: build(2 * pairs))
        step = DiscriminatorStep(network, LSGANDiscriminatorLoss())
        return peak_memory(step, (images, torch.empty_like(images)), optimizer=optimizer).peak

    fits, fails = 0, 1
    peaks: dict[int, int] = {}
    while (peaks.setdefault(fails, peak(fails))) <= budget_bytes:
        fits, fails = fails, 2 * fails
    if not fits:
        rule = f"be at least the {peaks[1]:,} bytes that two filters take"
        raise bad_value(_OWNER, "budget_bytes", rule, budget_bytes)
    while fails - fits > 1:
        middle = (fits + fails) // 2
        peaks[middle] = peak(middle)
        fits, fails = (middle, fails) if peaks[middle] <= budget_bytes else (fits, middle)
    return Fit(
        case=case,
        base_filters=2 * fits,
        params=sum(parameter.numel() for parameter in build(2 * fits).parameters()),
        peak_bytes=peaks[fits],
        next_peak_bytes=peaks[fails],
        budget_bytes=budget_bytes,
    )


def _without_values(network: nn.Module) -> nn.Module:
    """Give a network memory that nobody writes to, so that a wide one takes none."""
    network.to_empty(device="cpu")
    for buffer in network.buffers():
        if buffer.numel() == 1:  # a counter, whose value a pass may read
            buffer.zero_()
    return network


def _reserve(argument: str, value: int, make: Callable[[], _T]) -> _T:
    """Make what takes addresses alone; where there are not enough, name the argument."""
    try:
        return make()
    except RuntimeError as error:
        rule = "ask for no more than this machine has addresses for"
        raise bad_value(_OWNER, argument, rule, value) from error
