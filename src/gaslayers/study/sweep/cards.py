"""How many runs of a sweep fit on one GPU at a time, by the memory predicted for each."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from gaslayers.accounting import gan_peak_memory
from gaslayers.losses import LSGANDiscriminatorLoss, LSGANGeneratorLoss
from gaslayers.study.config import RunConfig
from gaslayers.study.networks import make_discriminator, make_generator, pack
from gaslayers.study.optimizers import make_optimizer

CONTEXT_BYTES = 2**30
"""What a process takes of a card besides its tensors: CUDA's context, the libraries' workspaces."""

SHARE = 0.9
"""Of a card that is filled at most."""


def runs_per_card(configs: Iterable[RunConfig], capacity: int) -> int:
    """How many runs fit on a card at a time, whichever of them meet on it; at least one.

    Args:
        configs: Of the runs.
        capacity: Bytes of the card.

    Note:
        The number is that of the largest run. It leaves aside what a card has to compute: beyond
        some number of runs at a time more of them take longer.
    """
    largest = max(map(predict_run, configs))
    return max(1, int(SHARE * capacity) // (largest + CONTEXT_BYTES))


def predict_run(config: RunConfig) -> int:
    """Bytes of CUDA's allocator that an iteration of a run takes at its peak, without running it.

    Args:
        config: What the run is.
    """
    # Seeds and lengths differ within a sweep, and no byte depends on them.
    return _predict(config.model_copy(update={"seed": 0, "iterations": 1}))


@functools.cache
def _predict(config: RunConfig) -> int:
    rows = config.batch_size // config.accumulate
    discriminator = make_discriminator(config).to(memory_format=torch.channels_last)
    generator = make_generator(config).to(memory_format=torch.channels_last)
    real = pack(torch.zeros(rows, 1, 28, 28), config.packing)
    report = gan_peak_memory(
        discriminator,
        _Packed(generator, config.packing),
        real.contiguous(memory_format=torch.channels_last),
        torch.zeros(rows, generator.latent_size),
        discriminator_loss=LSGANDiscriminatorLoss(reduction=config.loss_reduction),
        generator_loss=LSGANGeneratorLoss(reduction=config.loss_reduction),
        optimizer=functools.partial(make_optimizer, config=config),
        penalty=config.penalty,  # by double backward, which takes no less than a run's way
    )
    mean = 0 if config.generator_ema is None else _bytes_of(generator)
    return report.allocator_peak + mean


def _bytes_of(network: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in network.state_dict().values())


class _Packed(nn.Module):
    """A generator whose images are those that D scores together."""

    def __init__(self, generator: nn.Module, packing: int) -> None:
        super().__init__()
        self.generator = generator
        self.packing = packing

    def forward(self, z: Tensor) -> Tensor:
        """(N, latent_size) -> (N / packing, packing, H, W)."""
        return pack(self.generator(z), self.packing)
