"""One iteration of the LSGAN game, and what is read off it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

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
from gaslayers.study.shared_norm import alone, share_norms
from gaslayers.study.sharing import Sharing

if TYPE_CHECKING:
    from lightning_fabric.wrappers import _FabricModule


class NonFiniteLossError(ArithmeticError):
    """A loss became infinite or not a number; the run ends with a record that says so."""


class Game:
    """The two networks, their optimisers and losses, and the moves of training.

    With several processes each has its rows of every batch. The networks stay alike in all of them:
    gradients are averaged, and batch norms take the statistics of all rows.

    Args:
        config: What the run is.
        digits: The real data.
        fabric: Where it runs; launched, where it has several processes.
        memory_efficient: Let the lean paths run; same outputs and gradients.

    Raises:
        ValueError: The batch cannot be shared equally, or it is larger than the data.
    """

    def __init__(
        self, config: RunConfig, digits: Digits, fabric: Fabric, *, memory_efficient: bool = True
    ) -> None:
        self.config = config
        self.fabric = fabric
        self.sharing = Sharing(config, fabric)
        self.batches = RealBatches(digits, config)
        generator = make_generator(config)
        discriminator = make_discriminator(config, memory_efficient=memory_efficient)
        self._latent_size = generator.latent_size
        self.generator: Any = self._place(generator)
        self.discriminator: Any = self._place(discriminator)
        self.generator_optimizer = make_optimizer(self.generator.parameters(), config)
        self.discriminator_optimizer = make_optimizer(self.discriminator.parameters(), config)
        self.discriminator_loss = LSGANDiscriminatorLoss(reduction=config.loss_reduction)
        self.generator_loss = LSGANGeneratorLoss(reduction=config.loss_reduction)
        # What a step runs with gradients, apart from each other: in it the other one stays.
        self._moving_generator = fabric.setup_module(self.generator)
        self._moving_discriminator = fabric.setup_module(
            make_discriminator_step(
                config,
                self.discriminator,
                self.discriminator_loss,
                memory_efficient=memory_efficient,
            )
        )
        self._autocast = functools.partial(
            torch.autocast,
            fabric.device.type,
            dtype=torch.bfloat16,
            enabled=config.precision == "bf16-mixed",
        )
        self.generator_mean: AveragedModel | None = None
        if config.generator_ema is not None:
            self.generator_mean = AveragedModel(
                self.generator,
                multi_avg_fn=get_ema_multi_avg_fn(  # type: ignore[no-untyped-call]  # untyped
                    config.generator_ema
                ),
                use_buffers=True,
            )

    def _place(self, network: nn.Module) -> nn.Module:
        # The convolutions are several times faster in this layout, on CPU and CUDA alike.
        network = network.to(self.fabric.device).to(memory_format=torch.channels_last)
        return share_norms(network) if self.sharing.processes > 1 else network

    @property
    def sampled_generator(self) -> nn.Module:
        """What images are judged of: G, or the mean of its weights."""
        if self.generator_mean is None:
            found: nn.Module = self.generator
            return found
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
        return draw_noise(
            self.config.seed,
            stream,
            step,
            batch_size=self.config.batch_size if batch_size is None else batch_size,
            latent_size=self._latent_size,
        )

    def _pack(self, images: Tensor) -> Tensor:
        return pack(images, self.config.packing)

    def discriminator_step(self, iteration: int) -> None:
        """Move D on this iteration's real images and on fresh generated ones."""
        self.discriminator.requires_grad_(True)
        real = self._shares(self.batches.training(iteration))
        noise = self._shares(self._training_noise(iteration, 0))

        def loss(part: int) -> Tensor:
            # No graph through G: this step does not move it.
            with torch.no_grad():
                fake = self.generator(noise[part])
            found: Tensor = self._moving_discriminator(self._pack(real[part]), self._pack(fake))
            return found

        self._descend(loss, self._moving_discriminator, self.discriminator_optimizer)

    def generator_step(self, iteration: int, move: int) -> None:
        """Move G by its ``move``-th step of this iteration."""
        # No gradients for D's weights: this step does not move them.
        self.discriminator.requires_grad_(False)
        noise = self._shares(self._training_noise(iteration, 1 + move))

        def loss(part: int) -> Tensor:
            fake = self._moving_generator(noise[part])
            found: Tensor = self.generator_loss(self.discriminator(self._pack(fake)))
            return found

        self._descend(loss, self._moving_generator, self.generator_optimizer)
        if self.generator_mean is not None:
            self.generator_mean.update_parameters(self.generator)

    def _shares(self, batch: Tensor) -> list[Tensor]:
        """This process's rows of every part of a batch, on its device."""
        parts = self.config.accumulate
        shares = [self.sharing.rows(batch, part, parts) for part in range(parts)]
        return [to_device(share, self.fabric.device) for share in shares]

    def _descend(
        self,
        make_loss: Callable[[int], Tensor],
        moving: _FabricModule,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        """Take one step down the losses of all parts of a batch."""
        for part in range(self.config.accumulate):
            is_last = part == self.config.accumulate - 1
            with self.fabric.no_backward_sync(moving, enabled=not is_last):
                with self._autocast():
                    loss = make_loss(part)
                value = self.sharing.total(loss)
                if not math.isfinite(value):
                    raise NonFiniteLossError(f"the loss is {value}")
                if part == 0:
                    optimizer.zero_grad(set_to_none=True)
                self.fabric.backward(self.sharing.for_mean_gradient(loss))
        optimizer.step()

    @torch.no_grad()
    def evaluate(self, iteration: int) -> CurvePoint:
        """Losses, logits and the gradient at G's output, on a fresh batch."""
        sharing, device = self.sharing, self.fabric.device
        images = sharing.rows(self.batches.evaluation(iteration))
        real = self._pack(to_device(images, device))
        noise = sharing.rows(self._noise("evaluation z", iteration)).to(device)
        logits = Logits(self.discriminator)
        with self._autocast():
            fake = _run_aside(self.generator, noise)
            real_logits = _run_aside(logits, real)
            with torch.enable_grad():
                fake.requires_grad_()
                fake_logits = _run_aside(logits, self._pack(fake))
                loss = self.generator_loss(self.discriminator.activate(fake_logits))
                (gradient,) = torch.autograd.grad(sharing.of_whole(loss), fake)
        real_logits, fake_logits = (
            sharing.gather(rows.detach().float()) for rows in (real_logits, fake_logits)
        )
        real_scores = self.discriminator.activate(real_logits)
        fake_scores = self.discriminator.activate(fake_logits)
        is_sigmoid = self.discriminator.head == "sigmoid"
        return CurvePoint(
            iteration=iteration,
            discriminator_loss=self.discriminator_loss(real_scores, fake_scores).item(),
            generator_loss=self.generator_loss(fake_scores).item(),
            real_logit_mean=real_logits.mean().item(),
            real_logit_std=real_logits.std().item(),
            fake_logit_mean=fake_logits.mean().item(),
            fake_logit_std=fake_logits.std().item(),
            real_slope=slope_of_sigmoid(real_logits).mean().item() if is_sigmoid else None,
            fake_slope=slope_of_sigmoid(fake_logits).mean().item() if is_sigmoid else None,
            gradient_norm=sharing.norm(gradient).item(),
        )

    @torch.no_grad()
    def sample(self) -> Tensor:
        """(32, 1, 28, 28) images in [0, 1] from the run's fixed noise; in any process alone."""
        noise = self._noise("sample z", 0, SAMPLE_COUNT).to(self.fabric.device)
        with alone(self.sampled_generator), self._autocast():
            images = _run_aside(self.sampled_generator, noise)
        return images.float().cpu().add(1.0).div(2.0).clamp(0.0, 1.0)


def to_device(batch: Tensor, device: torch.device) -> Tensor:
    """Images and noise on a device, images in the layout of the networks."""
    layout = torch.channels_last if batch.dim() == 4 else torch.preserve_format
    return batch.to(device, memory_format=layout)


def _run_aside(module: nn.Module, x: Tensor) -> Tensor:
    """Run a network with its batch statistics, as in training, but leave the running ones alone."""
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    output: Tensor = functional_call(module, buffers, (x,))
    return output
