"""The peak of a penalty is predicted to the byte, alone and in a GAN's step."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gaslayers import LSGANDiscriminatorLoss, LSGANGeneratorLoss, peak_memory
from gaslayers.accounting import gan_peak_memory
from gaslayers.penalties import gradient_penalty
from tests.accounting.watch import real_peak


class Penalised(nn.Module):
    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.critic = nn.Sequential(
            nn.Conv2d(3, 32, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(32, 64, 4, 2, 1), norm,
            nn.LeakyReLU(0.2, inplace=True), nn.Flatten(), nn.Linear(64 * 64, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return gradient_penalty(self.critic, x)


@pytest.mark.parametrize("norm", [nn.Identity, lambda: nn.BatchNorm2d(64)], ids=["none", "live"])
def test_the_peak_of_a_penalty(norm: type[nn.Module]) -> None:
    network, x = Penalised(norm()), torch.randn(8, 3, 32, 32)
    assert peak_memory(network, x).peak == real_peak(network, (x,))


def _r1(discriminator: nn.Module, real: Tensor, _: Tensor) -> Tensor:
    return gradient_penalty(discriminator, real)


def test_the_peak_of_a_gans_step_with_a_penalty() -> None:
    critic = Penalised(nn.Identity()).critic
    generator = nn.Sequential(nn.Linear(4, 3 * 32 * 32), nn.Unflatten(1, (3, 32, 32)))

    def peak(penalty: object) -> int:
        return gan_peak_memory(
            critic,
            generator,
            torch.zeros(8, 3, 32, 32),
            torch.zeros(8, 4),
            discriminator_loss=LSGANDiscriminatorLoss(),
            generator_loss=LSGANGeneratorLoss(),
            penalty=penalty,
        ).discriminator_step.peak

    assert peak(None) < peak(_r1) < peak("r1")


class Scored(nn.Module):
    """The forward half of a D step with R1, scores and penalty from one pass over real images."""

    def __init__(self) -> None:
        super().__init__()
        self.critic = Penalised(nn.Identity()).critic

    def forward(self, real: Tensor, fake: Tensor) -> Tensor:
        penalty, scores = gradient_penalty(self.critic, real, return_scores=True)
        return LSGANDiscriminatorLoss()(scores, self.critic(fake)) + 5 * penalty


def test_the_peak_of_a_d_step_with_a_penalty_is_exact() -> None:
    network, images = Scored(), (torch.randn(8, 3, 32, 32), torch.randn(8, 3, 32, 32))
    assert peak_memory(network, images).peak == real_peak(network, images)
