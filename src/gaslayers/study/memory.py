"""What one discriminator step takes of memory: predicted everywhere, measured on an accelerator."""

from __future__ import annotations

import functools

import torch

from gaslayers.accounting import measure_peak, peak_memory, saved_bytes
from gaslayers.lean.native import availability as native
from gaslayers.losses import LSGANDiscriminatorLoss
from gaslayers.study.config import RunConfig
from gaslayers.study.discriminator_step import make_discriminator_step
from gaslayers.study.networks import make_discriminator
from gaslayers.study.optimizers import make_optimizer
from gaslayers.study.records import MemoryPrediction, MemoryReading
from gaslayers.study.training import Game


def predict_discriminator_step(game: Game) -> MemoryPrediction:
    """Count the bytes of a run's D step, lean and plain, without running it.

    In it are both batches of images, D and its optimiser; G is not. Where processes share a batch,
    or it goes through D in parts, it is one process's rows of one part. Its operators are
    PyTorch's: records tell the same whether or not kernels were compiled, which keep less and peak
    lower.
    """
    # Seeds and lengths differ within a study, and no byte depends on them.
    rows = game.config.batch_size // (game.config.accumulate * game.sharing.processes)
    return _predict(game.config.model_copy(update={"seed": 0, "iterations": 1, "batch_size": rows}))


@functools.cache
def _predict(config: RunConfig) -> MemoryPrediction:
    size = (config.batch_size // config.packing, config.packing, 28, 28)
    images = [torch.zeros(size).contiguous(memory_format=torch.channels_last) for _ in range(2)]
    optimizer = functools.partial(make_optimizer, config=config)
    loss = LSGANDiscriminatorLoss(reduction=config.loss_reduction)
    saved, peaks = {}, {}
    for is_lean in (True, False):
        discriminator = make_discriminator(config, memory_efficient=is_lean)
        discriminator = discriminator.to(memory_format=torch.channels_last)
        step = make_discriminator_step(config, discriminator, loss, memory_efficient=is_lean)
        with native.switched_off():
            saved[is_lean] = saved_bytes(step, tuple(images))
            peaks[is_lean] = peak_memory(step, tuple(images), optimizer=optimizer).peak
    return MemoryPrediction(
        saved_bytes=saved[True],
        saved_bytes_plain=saved[False],
        tensor_peak=peaks[True],
        tensor_peak_plain=peaks[False],
    )


def measure_discriminator_step(game: Game) -> MemoryReading | None:
    """Run one more D step on CUDA and read three numbers that mean three things.

    ``peak_allocated`` is what tensors took at most, ``peak_reserved`` what PyTorch's allocator
    held, ``process`` what the driver charges this process for, context included (None where the
    driver does not say): the 2018 study published the last. None on other devices.
    """
    device = game.fabric.device
    if device.type != "cuda":
        return None
    step = functools.partial(game.discriminator_step, game.config.iterations)
    measured = measure_peak(step, device=device)
    return MemoryReading(
        peak_allocated=measured.allocated,
        peak_reserved=measured.reserved or 0,
        process=measured.process,
    )
