"""Watch any GAN while it trains, and say what is wrong with it."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from gaslayers._checks import bad_type, bad_value, check_choice, check_int
from gaslayers.study.diagnosis import Reading, Thresholds, Verdict, diagnose
from gaslayers.study.diagnosis.readings import slope_of_sigmoid
from gaslayers.study.metrics import Evaluation

Head = Literal["linear", "sigmoid"]
_HEADS = ("linear", "sigmoid")
_OWNER = "Watch"
_AT_ONCE = 256
"""Iterations whose numbers are fetched from the device together."""
_STEP = (
    "discriminator_loss",
    "real_logit_mean",
    "real_logit_std",
    "fake_logit_mean",
    "fake_logit_std",
    "real_slope",
    "fake_slope",
)


class Watch:
    """A callback for the loop of any GAN: it reads what a verdict needs, and changes nothing.

    Numbers stay on their device and are fetched together, so that no iteration waits for them.

    Args:
        head: What D ends in: ``"sigmoid"`` if a sigmoid comes after its scores, in D or in the
            loss. Scores are given before it.
        every: Watch one iteration in so many.
        discriminator_steps: D steps to a G step; the last one of them is read.
        balance_every: Ask for the balance ratio in one iteration in so many, for it costs a pass
            through both networks; 0: never.
        thresholds: Where verdicts begin.

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: An argument is out of its bounds.

    Note:
        An iteration begins with its D steps. Where several G steps follow, the last one is read.
        With a gradient scaler, give its scale to `generated`. Its overflows are no divergence: they
        end. For which losses a verdict holds says `gaslayers.study.diagnosis.Thresholds`.

    Example:
        >>> from torch import nn
        >>> watch = Watch()
        >>> generator, discriminator = nn.Linear(2, 4), nn.Linear(4, 1)
        >>> for _ in range(3):
        ...     real, fake = discriminator(torch.rand(8, 4)), generator(torch.rand(8, 2))
        ...     scores = discriminator(fake.detach())
        ...     loss = ((real - 1) ** 2 + scores**2).mean()
        ...     watch.discriminator_step(real, scores, loss)
        ...     loss = ((discriminator(watch.generated(fake)) - 1) ** 2).mean()
        ...     loss.backward()
        ...     watch.generator_step(loss)
        >>> print(watch.verdict())
        healthy (judged: signals)
        No failure in 3 readings over 3 iterations.
        No samples were judged.
        Nothing needs to change.
    """

    def __init__(
        self,
        *,
        head: Head = "linear",
        every: int = 1,
        discriminator_steps: int = 1,
        balance_every: int = 50,
        thresholds: Thresholds | None = None,
    ) -> None:
        check_choice(_OWNER, "head", head, _HEADS)
        self.head = head
        self.every = check_int(_OWNER, "every", every)
        self.discriminator_steps = check_int(_OWNER, "discriminator_steps", discriminator_steps)
        self._step_of_d = 0
        self.balance_every = check_int(_OWNER, "balance_every", balance_every, minimum=0)
        if thresholds is not None and not isinstance(thresholds, Thresholds):
            raise bad_type(_OWNER, "thresholds", "be Thresholds or None", thresholds)
        self.thresholds = Thresholds() if thresholds is None else thresholds
        self.iterations = 0
        self._fetched: list[Reading] = []
        self._waiting: list[tuple[int, dict[str, Tensor]]] = []
        self._current: dict[str, Tensor] | None = None

    def discriminator_step(self, real_scores: Any, fake_scores: Any, loss: Tensor) -> None:
        """Read D's scores and loss; this begins an iteration, as the last D step in it.

        Args:
            real_scores: D's scores of real images, a tensor of any shape or a sequence of them,
                before any sigmoid.
            fake_scores: D's scores of generated images.
            loss: D's loss.

        Raises:
            TypeError: A score or the loss is no tensor.
            ValueError: There is no score, or the loss is no scalar.
        """
        self._step_of_d += 1
        if self._step_of_d % self.discriminator_steps:
            self._current = None  # a G step is yet to come, and no reading is open
            return
        iteration, self.iterations = self.iterations, self.iterations + 1
        if len(self._waiting) >= _AT_ONCE:
            self._fetch()
        if iteration % self.every:
            self._current = None
            return
        on_real = _read_scores("real_scores", real_scores)
        on_fake = _read_scores("fake_scores", fake_scores)
        numbers = [_read_loss(loss), *_moments(on_real), *_moments(on_fake)]
        if self.head == "sigmoid":
            numbers += [_slope(on_real), _slope(on_fake)]
        self._current = {"step": torch.stack(numbers)}
        self._waiting.append((iteration, self._current))

    def generated(self, images: Tensor, *, scale: float | Tensor = 1.0) -> Tensor:
        """Return the images, and read the gradient that G's loss sends back to them.

        For the G step, between the generator and whatever comes after it.

        Args:
            images: Generated images.
            scale: What the loss is multiplied by before ``backward``, such as
                ``scaler.get_scale()``; the gradient is divided by it.

        Raises:
            TypeError: The images are no tensor.
            ValueError: No gradient will come, as under ``torch.no_grad``.
        """
        if not isinstance(images, Tensor):
            raise bad_type(_OWNER, "images", "be a tensor", images)
        if not images.requires_grad:
            remedy = "Give the images of the G step, made with gradients, before any detach()."
            raise bad_value(_OWNER, "images", "require a gradient", images, remedy)
        if self._current is not None:
            read = functools.partial(self.read_gradient, scale=scale)
            images.register_hook(read)  # type: ignore[no-untyped-call]  # untyped in torch
        return images

    def read_gradient(self, gradient: Tensor, *, scale: float | Tensor = 1.0) -> None:
        """Read the gradient of G's loss by the generated images, where a loop has it at hand.

        Args:
            gradient: The gradient, of any shape.
            scale: What the loss was multiplied by, as for `generated`.
        """
        if self._current is not None:
            # Squares of half precision overflow at 256.
            wide = gradient.detach()
            norm = (wide.float() if wide.dtype.itemsize < 4 else wide).norm() / scale
            self._current["gradient_norm"] = norm.float()

    def generator_step(self, loss: Tensor) -> None:
        """Read G's loss.

        Raises:
            TypeError: The loss is no tensor.
            ValueError: The loss is no scalar.
        """
        if self._current is not None:
            self._current["generator_loss"] = _read_loss(loss)

    @property
    def wants_balance(self) -> bool:
        """Whether it is this iteration's turn to read the balance ratio."""
        if self.balance_every == 0 or self._current is None:
            return False
        return (self.iterations - 1) % self.balance_every == 0

    def balance(self, before: Any, after: Any) -> None:
        """Read the balance ratio of this iteration.

        Args:
            before: D's scores of generated images in the G step.
            after: D's scores of what the moved generator makes of the same noise. Make them under
                ``torch.no_grad()``. Norms in training mode move their running statistics in that
                pass: call both networks by ``torch.func.functional_call`` with copies of their
                buffers, and within ``torch.random.fork_rng()`` where they draw numbers.

        Raises:
            TypeError: A score is no tensor.
            ValueError: There is no score.

        Note:
            Differs from the paper: its scores of real images are of D after its update. Ours are
            those of the D step, before it, which cost no pass. So ours is larger where an update
            of D moves scores apart.

        References:
            Wang et al., "Balanced Training for Sparse GANs", 2023 (the balance ratio).
        """
        if self._current is None:
            return
        start, end = (
            _read_scores(name, scores).mean()
            for name, scores in (("before", before), ("after", after))
        )
        real = self._current["step"][1]
        self._current["balance_ratio"] = (end - start) / (real - start)

    @property
    def readings(self) -> list[Reading]:
        """What was read, in order; this waits for the device."""
        self._fetch()
        return list(self._fetched)

    def verdict(self, evaluation: Evaluation | None = None) -> Verdict:
        """Say what is wrong with the run so far, if anything.

        Args:
            evaluation: Of samples, by `gaslayers.study.metrics.evaluate`; without one, neither mode
                collapse nor quality is judged.

        Raises:
            ValueError: Nothing was read.
        """
        return diagnose(self.readings, evaluation=evaluation, thresholds=self.thresholds)

    def _fetch(self) -> None:
        """Bring what is complete, and what the current iteration has so far, to the CPU.

        The current iteration stays: its G step may be yet to come.
        """
        done = [entry for entry in self._waiting if entry[1] is not self._current]
        open_one = [entry for entry in self._waiting if entry[1] is self._current]
        entries = done + open_one
        # A reading of an iteration that was open at the last fetch is made anew. It is the last.
        while self._fetched and entries and self._fetched[-1].iteration >= entries[0][0]:
            self._fetched.pop()
        names = [sorted(numbers) for _, numbers in entries]
        flat = [
            numbers[name].reshape(-1)
            for (_, numbers), some in zip(entries, names, strict=True)
            for name in some
        ]
        values = iter(torch.cat(flat).tolist() if flat else [])
        for (iteration, numbers), some in zip(entries, names, strict=True):
            read: dict[str, Any] = {}
            for name in some:
                keys = _STEP[: numbers["step"].numel()] if name == "step" else (name,)
                read.update({key: next(values) for key in keys})
            if not math.isfinite(read.get("balance_ratio", 0.0)):
                del read["balance_ratio"]  # D scores real and generated images the same
            self._fetched.append(Reading(iteration, **read))
        self._waiting = open_one


def _read_scores(argument: str, scores: Any) -> Tensor:
    """Every score, flat, in at least float32, off the graph."""
    several = [scores] if isinstance(scores, Tensor) else scores
    if not isinstance(several, Sequence) or not all(isinstance(one, Tensor) for one in several):
        raise bad_type(_OWNER, argument, "be a tensor or a sequence of tensors", scores)
    flat = [one.detach().flatten() for one in several]
    if sum(one.numel() for one in flat) == 0:
        raise bad_value(_OWNER, argument, "hold a score", scores)
    joined = flat[0] if len(flat) == 1 else torch.cat(flat)
    return joined.float() if joined.dtype.itemsize < 4 else joined


def _moments(scores: Tensor) -> tuple[Tensor, Tensor]:
    std, mean = torch.std_mean(scores, correction=0)
    return mean.float(), std.float()


def _slope(scores: Tensor) -> Tensor:
    return slope_of_sigmoid(scores).mean().float()


def _read_loss(loss: Any) -> Tensor:
    if not isinstance(loss, Tensor):
        raise bad_type(_OWNER, "loss", "be a tensor", loss)
    if loss.numel() != 1:
        raise bad_value(_OWNER, "loss", "be a scalar", loss)
    return loss.detach().float().reshape(())
