"""What a D step descends: the loss on real and generated images, and maybe a penalty."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gaslayers.penalties import r1_penalty
from gaslayers.penalties.measures import MEASURES
from gaslayers.study.config import RunConfig


class DiscriminatorStep(nn.Module):
    """The forward half of a D step as a module.

    Args:
        discriminator: The network; with a penalty, one that gives its ``logits``.
        loss: Of real and generated scores.
        penalty_weight: Of R1 on the gradient of the logits by real images; None: no penalty.
        memory_efficient: Take the penalty by `gaslayers.gradient_penalty`, which agrees to rounding
            with double backward by autograd; False: by that.
    """

    def __init__(
        self,
        discriminator: nn.Module,
        loss: nn.Module,
        *,
        penalty_weight: float | None = None,
        memory_efficient: bool = True,
    ) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.loss = loss
        self.penalty_weight = penalty_weight
        self.memory_efficient = memory_efficient

    def forward(self, real: Tensor, fake: Tensor) -> Tensor:
        """Two batches of (N, C, H, W) -> a scalar."""
        discriminator: Any = self.discriminator
        if self.penalty_weight is None:
            loss: Tensor = self.loss(discriminator(real), discriminator(fake))
            return loss
        # One pass over the real images for both, so that running statistics move once.
        penalty, logits = (self._lean if self.memory_efficient else self._plain)(real)
        loss = self.loss(discriminator.activate(logits), discriminator(fake))
        return loss + self.penalty_weight * penalty

    def _lean(self, real: Tensor) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = r1_penalty(
            Logits(self.discriminator), real, return_scores=True
        )
        return found

    def _plain(self, real: Tensor) -> tuple[Tensor, Tensor]:
        real = real.detach().requires_grad_()
        logits = Logits(self.discriminator)(real)
        (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
        return MEASURES["r1"](gradient), logits


def make_discriminator_step(
    config: RunConfig, discriminator: nn.Module, loss: nn.Module, *, memory_efficient: bool = True
) -> DiscriminatorStep:
    """The D step of a run, with its penalty."""
    return DiscriminatorStep(
        discriminator,
        loss,
        penalty_weight=None if config.penalty is None else config.penalty_weight,
        memory_efficient=memory_efficient,
    )


class Logits(nn.Module):
    """A discriminator's logits as a module's forward.

    Args:
        discriminator: The network.
    """

    def __init__(self, discriminator: nn.Module) -> None:
        super().__init__()
        self.discriminator = discriminator

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 1)."""
        logits: Tensor = self.discriminator.logits(x)  # type: ignore[operator]  # D has it
        return logits
