"""Whether a committed record still belongs to the code: run its beginning again and compare."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from lightning_fabric import Fabric

from gaslayers._checks import check_int
from gaslayers.study.data import Digits
from gaslayers.study.program import code_hash
from gaslayers.study.records import CurvePoint
from gaslayers.study.report.runs import Run
from gaslayers.study.training import Game

TOLERANCE = 1e-3
"""How far a loss may be from the recorded one, relative to the larger of the two and 1.

Machines round differently, and training enlarges that from iteration to iteration: on the machine
and with the threads of the record the difference is 0.
"""


class StaleRecordError(RuntimeError):
    """A record is of another configuration, other digits or other code than what is here."""


@dataclass(frozen=True)
class Replay:
    """The beginning of a recorded run beside the same iterations run again.

    Args:
        name: The run's name.
        recorded: What the record holds.
        live: What came out just now.
        code_hash: Of the code that ran just now; the record's, unless PyTorch's release differs.
        is_same_release: Whether the record was made with this release of PyTorch.
    """

    name: str
    recorded: list[CurvePoint]
    live: list[CurvePoint]
    code_hash: str
    is_same_release: bool

    def differences(self) -> list[float]:
        """Of each loss from the recorded one, relative as ``TOLERANCE`` says."""
        return [
            _difference(getattr(live, loss), getattr(recorded, loss))
            for live, recorded in zip(self.live, self.recorded, strict=True)
            for loss in ("discriminator_loss", "generator_loss")
        ]

    def __str__(self) -> str:
        """A line an iteration that was read: both losses, recorded and live."""
        release = "same" if self.is_same_release else "not compared: another release of PyTorch"
        lines = [
            f"{self.name}: code hash {self.code_hash[:12]} ({release})",
            "iteration  L_D recorded      L_D live  L_G recorded      L_G live",
        ]
        for recorded, live in zip(self.recorded, self.live, strict=True):
            losses = (
                recorded.discriminator_loss,
                live.discriminator_loss,
                recorded.generator_loss,
                live.generator_loss,
            )
            cells = "  ".join(f"{loss:12.6f}" for loss in losses)
            lines.append(f"{recorded.iteration:9d}  {cells}")
        return "\n".join(lines)


def replay(
    run: Run,
    digits: Digits,
    fabric: Fabric,
    *,
    iterations: int = 11,
    memory_efficient: bool = False,
    compare_losses: bool = True,
) -> Replay:
    """Run the first iterations of a recorded run again and compare them with its record.

    The plain composition of the blocks is run, which the code hash is of. The lean path of a
    separable convolution rounds otherwise, and so do the kernels of another processor: the
    saturating case (``depthwise_inception`` as coded) enlarges a difference of 1e-7 to other losses
    within one iteration, so that away from the record's machine only its hashes can be compared.

    Args:
        run: The recorded run, as `read_run` reads it.
        digits: The digits that it was trained on.
        fabric: Where to run.
        iterations: How many iterations; the losses are compared where the record has them.
        memory_efficient: Let the lean paths run, for a record that was made so.
        compare_losses: Whether other losses than the recorded ones are an error.

    Raises:
        StaleRecordError: The configuration in the record, the digits, the operators of the code,
            or a loss is not the recorded one.
    """
    check_int("replay", "iterations", iterations)
    record = run.record
    config = record.config
    if config.config_hash != record.config_hash:
        raise _stale(run, "configuration", record.config_hash, config.config_hash)
    if digits.sha256 != config.data_sha256:
        raise _stale(run, "digits", config.data_sha256, digits.sha256)
    program = code_hash(config)
    is_same_release = _release(record.machine.torch) == _release(torch.__version__)
    if is_same_release and program != record.code_hash:
        raise _stale(run, "code", record.code_hash, program)
    game = Game(config, digits, fabric, memory_efficient=memory_efficient)
    live = []
    for iteration in range(min(iterations, record.iterations_done)):
        game.iterate(iteration)
        if config.is_logged(iteration):
            live.append(game.evaluate(iteration))
    result = Replay(run.name, run.curves[: len(live)], live, program, is_same_release)
    # Asked like this, so that what is not a number does not agree.
    agrees = all(difference <= TOLERANCE for difference in result.differences())
    if compare_losses and not agrees:
        raise StaleRecordError(f"The losses are not those of the record.\n{result}")
    return result


def _difference(live: float, recorded: float) -> float:
    return abs(live - recorded) / max(1.0, abs(live), abs(recorded))


def _release(version: str) -> str:
    """The version without the build's own suffix."""
    return version.partition("+")[0]


def _stale(run: Run, what: str, recorded: str, here: str) -> StaleRecordError:
    return StaleRecordError(
        f"{run.name}: the record is of another {what}: hash {recorded[:12]}, got {here[:12]}. "
        "Delete the run's folder and run the study again."
    )
