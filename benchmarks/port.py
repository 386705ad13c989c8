"""The 2018 iteration as one ports it line by line: what `iteration.py` measures the study against.

Plain PyTorch with contiguous tensors, one optimiser update a parameter, a D step whose backward
runs on through G, and G steps whose backward also fills D's gradients. Same numbers, other cost.
Nothing of the package computes here; only first weights, batches and noise are taken from a game.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gaslayers.study.randomness import draw_noise
from gaslayers.study.training import Game


class BatchNorm(nn.Module):
    """Live batch norm with an offset and no weight."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            bias=self.bias,
            training=True,
            momentum=1e-3,
            eps=1e-3,
        )


def widen(x: Tensor) -> Tensor:
    """Read N x H x W x 4C memory as N x 2H x 2W x C."""
    n, channels, height, width = x.shape
    memory = x.permute(0, 2, 3, 1).reshape(n, 2 * height, 2 * width, channels // 4)
    return memory.permute(0, 3, 1, 2).contiguous()


class Generator(nn.Module):
    def __init__(self, base: int) -> None:
        super().__init__()
        self.base = base
        self.project = nn.Linear(100, 49 * base)
        self.project_norm = BatchNorm(49 * base)
        self.conv_quarter = nn.Conv2d(base, 2 * base, 5, padding=2)
        self.norm_quarter = BatchNorm(2 * base)
        self.conv_half = nn.Conv2d(base // 2, base, 5, padding=2)
        self.norm_half = BatchNorm(base)
        self.conv_full = nn.Conv2d(base // 4, 1, 5, padding=2)

    def forward(self, z: Tensor) -> Tensor:
        x = torch.relu(self.project_norm(self.project(z)))
        x = x.view(-1, 7, 7, self.base).permute(0, 3, 1, 2).contiguous()
        x = widen(torch.relu(self.norm_quarter(self.conv_quarter(x))))
        x = widen(torch.relu(self.norm_half(self.conv_half(x))))
        return torch.tanh(self.conv_full(x))


class Discriminator(nn.Module):
    """The case `original`: 3x3 convolutions, the norm that was never live, a sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        widths = (1, 32, 64, 128, 256)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(n_in, n_out, 3, padding=1) for n_in, n_out in itertools.pairwise(widths)
        )
        self.linear = nn.Linear(256 * 2 * 2, 1)
        for index, width in enumerate(widths[2:]):
            self.register_buffer(f"gamma{index}", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        for index, convolution in enumerate(self.convolutions):
            x = convolution(x)
            if index > 0:
                gamma = self.get_buffer(f"gamma{index - 1}")
                x = gamma.view(1, -1, 1, 1) * x / (1 + 1e-5) ** 0.5
            x = F.max_pool2d(torch.relu(x), 2, ceil_mode=True)
        return torch.sigmoid(self.linear(x.flatten(1)))


class RMSProp:
    """TensorFlow 1's, one parameter after the other."""

    def __init__(self, network: nn.Module, rate: float) -> None:
        self.parameters = list(network.parameters())
        self.mean_squares = [torch.ones_like(p) for p in self.parameters]
        self.rate = rate

    @torch.no_grad()
    def step(self) -> None:
        for p, mean_square in zip(self.parameters, self.mean_squares, strict=True):
            mean_square.mul_(0.9).add_(0.1 * p.grad * p.grad)
            p -= self.rate * p.grad / torch.sqrt(mean_square + 1e-10)


class Port:
    """The port of a game of the case `original`, `as_coded`, starting from the game's weights."""

    def __init__(self, game: Game) -> None:
        self.config, self.batches = game.config, game.batches
        self.generator = Generator(game.config.generator_base_channels)
        self.discriminator = Discriminator()
        copy(game.generator.parameters(), self.generator.parameters())
        copy(game.discriminator.parameters(), self.discriminator.parameters())
        copy(game.discriminator.buffers(), self.discriminator.buffers())
        self.generator_optimizer = RMSProp(self.generator, game.config.learning_rate)
        self.discriminator_optimizer = RMSProp(self.discriminator, game.config.learning_rate)

    def iterate(self, iteration: int) -> list[float]:
        """One D step, then the G steps; the loss of each."""
        moves = 1 + self.config.generator_steps
        first, *others = [self._noise(iteration * moves + move) for move in range(moves)]
        losses = [self._discriminator_step(iteration, first)]
        return losses + [self._generator_step(z) for z in others]

    def _noise(self, step: int) -> Tensor:
        seed, size = self.config.seed, self.config.batch_size
        return draw_noise(seed, "training z", step, batch_size=size, latent_size=100)

    def _zero_grad(self) -> None:
        self.generator.zero_grad()
        self.discriminator.zero_grad()

    def _discriminator_step(self, iteration: int, z: Tensor) -> float:
        real = self.batches.training(iteration)
        fake = self.generator(z)
        on_real, on_fake = self.discriminator(real), self.discriminator(fake)
        loss = (torch.sum((on_real - 1) ** 2) + torch.sum(on_fake**2)) / 2
        self._zero_grad()
        loss.backward()
        self.discriminator_optimizer.step()
        return loss.item()

    def _generator_step(self, z: Tensor) -> float:
        loss = torch.sum((self.discriminator(self.generator(z)) - 1) ** 2) / 2
        self._zero_grad()
        loss.backward()
        self.generator_optimizer.step()
        return loss.item()


def copy(sources: Iterable[Tensor], targets: Iterable[Tensor]) -> None:
    """Copy weights in order; shapes must agree."""
    with torch.no_grad():
        for source, target in zip(sources, targets, strict=True):
            if source.shape != target.shape:
                raise ValueError(f"{tuple(source.shape)} does not fit {tuple(target.shape)}")
            target.copy_(source)
