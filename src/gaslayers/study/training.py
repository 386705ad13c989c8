"""One iteration of the LSGAN game, and what is read off it."""

from __future__ import annotations

import math

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gaslayers.losses import LSGANDiscriminatorLoss, LSGANGeneratorLoss
from gaslayers.study.batches import RealBatches
from gaslayers.study.config import SAMPLE_COUNT, RunConfig
from gaslayers.study.data import Digits
from gaslayers.study.diagnosis.readings import slope_of_sigmoid
from gaslayers.study.discriminator_step import Logits, make_discriminator_step
from gaslayers.study.networks import make_discriminator, make_generator, pack
from gaslayers.study.optimizers import make_optimizer
from gaslayers.study.randomness import draw_noise
from gaslayers.study.records import CurvePoint


class NonFiniteLossError(ArithmeticError):
    """A loss became infinite or not a number; the run ends with a record that says so."""


class Game:
    """The two networks, their optimisers and losses, and the moves of training.

    Args:
        config: What the run is.
        digits: The real data.
        fabric: Where it runs.
        memory_efficient: Let the lean paths run; same outputs and gradients.
    """

    def __init__(
        self, config: RunConfig, digits: Digits, fabric: Fabric, *, memory_efficient: bool = True
    ) -> None:
        self.config = config
        self.fabric = fabric
        self.batches = RealBatches(digits, config)
        generator = make_generator(config)
        discriminator = make_discriminator(config, memory_efficient=memory_efficient)
        # The convolutions are several times faster in this layout, on CPU and CUDA alike.
        layout = torch.channels_last
        self.generator = generator.to(fabric.device).to(memory_format=layout)
        self.discriminator = discriminator.to(fabric.device).to(memory_format=layout)
        self.generator_optimizer = make_optimizer(self.generator.parameters(), config)
        self.discriminator_optimizer = make_optimizer(self.discriminator.parameters(), config)
        self.discriminator_loss = LSGANDiscriminatorLoss(reduction=config.loss_reduction)
        self.generator_loss = LSGANGeneratorLoss(reduction=config.loss_reduction)
        self._memory_efficient = memory_efficient
        self.generator_mean: AveragedModel | None = None
        if config.generator_ema is not None:
            self.generator_mean = AveragedModel(
                self.generator,
                multi_avg_fn=get_ema_multi_avg_fn(  # type: ignore[no-untyped-call]  # untyped
                    config.generator_ema
                ),
                use_buffers=True,
            )

    @property
    def sampled_generator(self) -> nn.Module:
        """What images are judged of: G, or the mean of its weights."""
        if self.generator_mean is None:
            return self.generator
        mean: nn.Module = self.generator_mean.module
        return mean

    def iterate(self, iteration: int) -> None:
        """One D step, then the G steps, each with fresh noise.

        Raises:
            NonFiniteLossError: A loss is infinite or not a number.
        """
        self.discriminator_step(iteration)
        for move in range(self.config.generator_steps):
            self.generator_step(iteration, move)

    def _training_noise(self, iteration: int, move: int) -> Tensor:
        return self._noise("training z", iteration * (1 + self.config.generator_steps) + move)

    def _noise(self, stream: str, step: int, batch_size: int | None = None) -> Tensor:
        noise = draw_noise(
            self.config.seed,
            stream,
            step,
            batch_size=self.config.batch_size if batch_size is None else batch_size,
            latent_size=self.generator.latent_size,
        )
        return noise.to(self.fabric.device)

    def _to_device(self, images: Tensor) -> Tensor:
        return images.to(self.fabric.device, memory_format=torch.channels_last)

    def _pack(self, images: Tensor) -> Tensor:
        return pack(images, self.config.packing)

    def discriminator_step(self, iteration: int) -> None:
        """Move D on this iteration's real images and on fresh generated ones."""
        self.discriminator.requires_grad_(True)
        real = self._to_device(self.batches.training(iteration))
        # No graph through G: this step does not move it.
        with torch.no_grad():
            fake = self.generator(self._training_noise(iteration, 0))
        step = make_discriminator_step(
            self.config,
            self.discriminator,
            self.discriminator_loss,
            memory_efficient=self._memory_efficient,
        )
        loss = step(self._pack(real), self._pack(fake))
        self._descend(loss, self.discriminator_optimizer)

    def generator_step(self, iteration: int, move: int) -> None:
        """Move G by its ``move``-th step of this iteration."""
        # No gradients for D's weights: this step does not move them.
        self.discriminator.requires_grad_(False)
        fake = self.generator(self._training_noise(iteration, 1 + move))
        loss = self.generator_loss(self.discriminator(self._pack(fake)))
        self._descend(loss, self.generator_optimizer)
        if self.generator_mean is not None:
            self.generator_mean.update_parameters(self.generator)

    def _descend(self, loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
        if not math.isfinite(loss.item()):
            raise NonFiniteLossError(f"the loss is {loss.item()}")
        optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        optimizer.step()

    @torch.no_grad()
    def evaluate(self, iteration: int) -> CurvePoint:
        """Losses, logits and the gradient at G's output, on a fresh batch."""
        real = self._pack(self._to_device(self.batches.evaluation(iteration)))
        fake = _run_aside(self.generator, self._noise("evaluation z", iteration))
        logits = Logits(self.discriminator)
        real_logits = _run_aside(logits, real)
        with torch.enable_grad():
            fake.requires_grad_()
            fake_logits = _run_aside(logits, self._pack(fake))
            fake_scores = self.discriminator.activate(fake_logits)
            generator_loss = self.generator_loss(fake_scores)
            (gradient,) = torch.autograd.grad(generator_loss, fake)
        real_scores = self.discriminator.activate(real_logits)
        is_sigmoid = self.discriminator.head == "sigmoid"
        return CurvePoint(
            iteration=iteration,
            discriminator_loss=self.discriminator_loss(real_scores, fake_scores).item(),
            generator_loss=generator_loss.item(),
            real_logit_mean=real_logits.mean().item(),
            real_logit_std=real_logits.std().item(),
            fake_logit_mean=fake_logits.mean().item(),
            fake_logit_std=fake_logits.std().item(),
            real_slope=slope_of_sigmoid(real_logits).mean().item() if is_sigmoid else None,
            fake_slope=slope_of_sigmoid(fake_logits).mean().item() if is_sigmoid else None,
            gradient_norm=gradient.norm().item(),
        )

    @torch.no_grad()
    def sample(self) -> Tensor:
        """(32, 1, 28, 28) images in [0, 1] from the run's fixed noise."""
        images = _run_aside(self.sampled_generator, self._noise("sample z", 0, SAMPLE_COUNT))
        return images.cpu().add(1.0).div(2.0).clamp(0.0, 1.0)


def _run_aside(module: nn.Module, x: Tensor) -> Tensor:
    """Run a network with its batch statistics, as in training, but leave the running ones alone."""
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    output: Tensor = functional_call(module, buffers, (x,))
    return output
