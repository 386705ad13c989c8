"""Batches of real digits as the discriminator sees them."""

from __future__ import annotations

import torch
from torch import Tensor

from gaslayers._checks import bad_value
from gaslayers.study.config import RunConfig
from gaslayers.study.data import Digits
from gaslayers.study.randomness import make_generator


def check_batch_size(config: RunConfig, digits: Digits) -> None:
    """Refuse a batch that would hold an image twice, or be shorter than the generated one.

    Raises:
        ValueError: A batch is larger than the data.
    """
    total = len(digits)
    if config.batch_size > total:
        rule = f"be at most {total}, the number of digits"
        raise bad_value("RunConfig", "batch_size", rule, config.batch_size)


class RealBatches:
    """Real images by iteration, in file order or shuffled anew every epoch.

    Args:
        digits: The data.
        config: Batch size, seed, order and range of the pixels.

    Raises:
        ValueError: A batch is larger than the data.
    """

    def __init__(self, digits: Digits, config: RunConfig) -> None:
        check_batch_size(config, digits)
        self.digits = digits
        self.config = config
        self._epoch = -1
        self._order = torch.arange(len(digits.images))

    def training(self, iteration: int) -> Tensor:
        """(batch_size, 1, 28, 28), the batch of this iteration."""
        size, total = self.config.batch_size, len(self.digits.images)
        if not self.config.shuffle:
            return self._images(torch.arange(iteration * size, (iteration + 1) * size) % total)
        batches = total // size
        epoch, batch = divmod(iteration, batches)
        if epoch != self._epoch:
            generator = make_generator(self.config.seed, "data order", epoch)
            self._order = torch.randperm(total, generator=generator)
            self._epoch = epoch
        return self._images(self._order[batch * size : (batch + 1) * size])

    def evaluation(self, iteration: int) -> Tensor:
        """(batch_size, 1, 28, 28), a random batch of its own; training does not notice it."""
        generator = make_generator(self.config.seed, "evaluation data", iteration)
        total = len(self.digits.images)
        return self._images(torch.randint(total, (self.config.batch_size,), generator=generator))

    def _images(self, indices: Tensor) -> Tensor:
        pixels = self.digits.images[indices].unsqueeze(1).float() / 255.0
        return pixels if self.config.image_range == "unit" else pixels * 2.0 - 1.0
