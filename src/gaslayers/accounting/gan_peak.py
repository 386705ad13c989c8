"""The memory that an iteration of a GAN takes at its peak, without running it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from gaslayers._checks import bad_type, check_choice, check_int
from gaslayers.accounting._fake import fake_twin
from gaslayers.accounting._penalty import PENALTIES, Penalty
from gaslayers.accounting._rehearsal import OptimizerFactory, Rehearsal
from gaslayers.accounting._sandbox import Call, isolated, make_call
from gaslayers.accounting.peak import check_callable
from gaslayers.accounting.peak_report import PeakReport


@dataclass(frozen=True, kw_only=True)
class GANPeakReport:
    """What `gan_peak_memory` found: the two steps of an iteration.

    Args:
        discriminator_step: The step that moves the discriminator.
        generator_step: The step that moves the generator.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from gaslayers.accounting import gan_peak_memory
        >>> report = gan_peak_memory(
        ...     nn.Linear(8, 1),
        ...     nn.Linear(2, 8),
        ...     torch.zeros(4, 8),
        ...     torch.zeros(4, 2),
        ...     discriminator_loss=lambda real, fake: (
        ...         (real - 1).square().mean() + fake.square().mean()
        ...     ),
        ...     generator_loss=lambda fake: (fake - 1).square().mean(),
        ... )
        >>> report.peak == max(report.discriminator_step.peak, report.generator_step.peak)
        True
    """

    discriminator_step: PeakReport
    generator_step: PeakReport

    @property
    def peak(self) -> int:
        """The higher of the two peaks of the steady state."""
        return max(self.discriminator_step.peak, self.generator_step.peak)

    @property
    def allocator_peak(self) -> int:
        """The higher of the two peaks in the blocks of CUDA's allocator."""
        return max(self.discriminator_step.allocator_peak, self.generator_step.allocator_peak)

    def to_dict(self, *, timeline: bool = False) -> dict[str, Any]:
        """The report as plain dicts, lists, strings and integers; as `PeakReport.to_dict`."""
        return {name: step.to_dict(timeline=timeline) for name, step in self._steps().items()}

    def to_json(self, *, timeline: bool = False, indent: int | None = 2) -> str:
        """The report as JSON."""
        return json.dumps(self.to_dict(timeline=timeline), indent=indent)

    def __str__(self) -> str:
        return "\n\n".join(map(str, self._steps().values()))

    def _repr_html_(self) -> str:
        return "".join(step._repr_html_() for step in self._steps().values())

    def _steps(self) -> dict[str, PeakReport]:
        return {
            "discriminator_step": self.discriminator_step,
            "generator_step": self.generator_step,
        }


def gan_peak_memory(
    discriminator: nn.Module,
    generator: nn.Module,
    real: Any,
    latent: Any,
    *,
    discriminator_loss: Callable[[Any, Any], Tensor],
    generator_loss: Callable[[Any], Tensor],
    optimizer: OptimizerFactory | None = None,
    generator_optimizer: OptimizerFactory | None = None,
    penalty: str | Penalty | None = None,
    steps: int = 2,
) -> GANPeakReport:
    """Predict, to the byte, the memory of the two steps of a GAN's iteration at their peaks.

    As `peak_memory`, for both networks in one memory: parameters, buffers and optimiser states of
    both are there in either step. An iteration is::

        # D step: no graph through G
        with torch.no_grad():
            fake = generator(latent)
        loss = discriminator_loss(discriminator(real), discriminator(fake))
        loss = loss + penalty(discriminator, real, fake)  # where there is one
        loss.backward()
        discriminator_optimizer.step()
        discriminator_optimizer.zero_grad(set_to_none=True)

        # G step: no gradients for D's parameters
        discriminator.requires_grad_(False)
        generator_loss(discriminator(generator(latent))).backward()
        generator_optimizer.step()
        generator_optimizer.zero_grad(set_to_none=True)

    with the results of each step alive until it ends. The penalties that are known by name are::

        def r1(discriminator, real, fake):
            images = real.detach().requires_grad_()
            scores = discriminator(images)
            (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
            return gradient.flatten(1).square().sum(1).mean()


        def wgan_gp(discriminator, real, fake):
            share = torch.rand(len(real), 1, 1, 1)
            mixed = torch.lerp(fake, real, share).requires_grad_()
            scores = discriminator(mixed)
            (gradient,) = torch.autograd.grad(scores.sum(), mixed, create_graph=True)
            return (gradient.flatten(1).norm(2, 1) - 1).square().mean()

    Args:
        discriminator: The network that scores.
        generator: The network that makes images.
        real: Real images; a tuple holds the discriminator's positional arguments, the images
            first, and the others, such as labels, go with generated images too.
        latent: Noise; a tuple holds the generator's positional arguments.
        discriminator_loss: Makes a scalar of the scores of real and of generated images, as
            `gaslayers.LSGANDiscriminatorLoss`.
        generator_loss: Makes a scalar of the scores of generated images, as
            `gaslayers.LSGANGeneratorLoss`.
        optimizer: As for `peak_memory`, for either network.
        generator_optimizer: The generator's, where it is another one.
        penalty: What is added to the discriminator's loss: ``"r1"``, ``"wgan-gp"``, or what makes
            a scalar of the discriminator, of ``real`` as it was given (labels and all) and of the
            generated images; None: nothing. A factor before a penalty is one more scalar. The names
            stand for double backward; `gaslayers.gradient_penalty` goes into a function.
        steps: Iterations to take; the last is taken for the steady state.

    Raises:
        TypeError: As for `peak_memory`, or a ``penalty`` of the wrong kind.
        ValueError: As for `peak_memory`, or a ``penalty`` of an unknown name.

    Note:
        As for `peak_memory`. Other loops take other peaks, as one that keeps gradients until the
        next backward pass.

    Example:
        >>> from functools import partial
        >>> import torch
        >>> from gaslayers import LSGANDiscriminatorLoss, LSGANGeneratorLoss
        >>> from gaslayers.accounting import gan_peak_memory
        >>> from gaslayers.models import LSGANGenerator, build_discriminator
        >>> report = gan_peak_memory(
        ...     build_discriminator("inception_8"),
        ...     LSGANGenerator(),
        ...     torch.zeros(8, 1, 28, 28),
        ...     torch.zeros(8, 100),
        ...     discriminator_loss=LSGANDiscriminatorLoss(),
        ...     generator_loss=LSGANGeneratorLoss(),
        ...     optimizer=partial(torch.optim.Adam, lr=2e-4),
        ... )
        >>> report.discriminator_step.peak, report.generator_step.peak
        (23068644, 33523852)
    """
    owner = "gan_peak_memory"
    check_callable(owner, "discriminator_loss", discriminator_loss, optional=False)
    check_callable(owner, "generator_loss", generator_loss, optional=False)
    check_callable(owner, "optimizer", optimizer)
    check_callable(owner, "generator_optimizer", generator_optimizer)
    check_int(owner, "steps", steps)
    chosen = _choose_penalty(owner, penalty)
    scored = make_call(owner, discriminator, real, None)
    made = make_call(owner, generator, latent, None)
    pair = nn.ModuleDict({"discriminator": scored.module, "generator": made.module})
    call = Call(pair, (scored.args, made.args), {})
    with isolated(call):
        fakes = FakeTensorMode()
        companions = (discriminator_loss, generator_loss, chosen)
        twin, companions = fake_twin(owner, fakes, call, companions)
        rehearsal = Rehearsal(owner, fakes, twin)
        game = _Game(twin, *companions)
        with rehearsal.running():
            second = optimizer if generator_optimizer is None else generator_optimizer
            updater = rehearsal.make_optimizer(optimizer, game.discriminator)
            generator_updater = rehearsal.make_optimizer(second, game.generator)
            for _ in range(steps):
                game.freeze(frozen=False)
                rehearsal.step("discriminator_step", game.discriminator_forward, updater)
                game.freeze(frozen=True)
                rehearsal.step("generator_step", game.generator_forward, generator_updater)
    pair_name = f"{type(scored.module).__name__} and {type(made.module).__name__}"
    return GANPeakReport(
        discriminator_step=rehearsal.report("discriminator_step", f"{pair_name}, D step"),
        generator_step=rehearsal.report("generator_step", f"{pair_name}, G step"),
    )


def _choose_penalty(owner: str, penalty: Any) -> Penalty | None:
    if isinstance(penalty, str):
        check_choice(owner, "penalty", penalty, tuple(PENALTIES))
        return PENALTIES[penalty]
    if penalty is not None and not callable(penalty):
        names = ", ".join(map(repr, PENALTIES))
        raise bad_type(owner, "penalty", f"be {names}, a callable or None", penalty)
    return penalty


class _Game:
    """The two forward passes of an iteration."""

    def __init__(
        self,
        twin: Call,
        discriminator_loss: Callable[[Any, Any], Tensor],
        generator_loss: Callable[[Any], Tensor],
        penalty: Penalty | None,
    ) -> None:
        self.discriminator, self.generator = twin.module.children()
        self._penalty = penalty
        self._real, self._latent = twin.args
        self._losses = discriminator_loss, generator_loss
        self._trained = [p for p in self.discriminator.parameters() if p.requires_grad]

    def freeze(self, *, frozen: bool) -> None:
        """Have the discriminator's parameters take no gradient, or again those that did."""
        for parameter in self._trained:
            parameter.requires_grad_(not frozen)

    def discriminator_forward(self) -> tuple[Tensor, Any]:
        """The discriminator's loss, and what it was made of."""
        with torch.no_grad():
            fake = self.generator(*self._latent)
        real_scores = self.discriminator(*self._real)
        fake_scores = self.discriminator(fake, *self._real[1:])
        loss = self._losses[0](real_scores, fake_scores)
        if self._penalty is not None:
            real = self._real if len(self._real) > 1 else self._real[0]
            loss = loss + self._penalty(self.discriminator, real, fake)
        return loss, (fake, real_scores, fake_scores)

    def generator_forward(self) -> tuple[Tensor, Any]:
        """The generator's loss, and what it was made of."""
        fake = self.generator(*self._latent)
        scores = self.discriminator(fake, *self._real[1:])
        return self._losses[1](scores), (fake, scores)
