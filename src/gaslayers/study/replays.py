"""Whether a committed record still belongs to the code: run its beginning again and compare.

Processors round differently, and so does one with another number of threads. Training enlarges
that, in some games within one iteration. So the beginning is run twice, the second time from
weights that are moved by more than any processor rounds: a number is compared with the record for
as long as the two runs still agree on it, and shown alone from there on.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from lightning_fabric import Fabric

from gaslayers._checks import check_int
from gaslayers.study.data import Digits
from gaslayers.study.program import code_hash
from gaslayers.study.records import CurvePoint
from gaslayers.study.report.runs import Run
from gaslayers.study.training import Game

TOLERANCE = 1e-3
"""How far a number may be from the recorded one, relative to the numbers of its kind.

A loss is held against the larger of the two and 1, a mean or spread of logits against the largest
of them all. On the machine and with the threads of the record the difference is 0.
"""

MOVE = 1e-6
"""How far the weights of the second run are moved, relative to each: eight roundings of float32."""

RESOLVED = TOLERANCE / 100
"""How far the second run may be from the first for a kind of number to be compared with the record.

Far less than the record may be: two processors round otherwise in every operator.
"""

LOSSES = ("discriminator_loss", "generator_loss")
LOGITS = ("real_logit_mean", "real_logit_std", "fake_logit_mean", "fake_logit_std")


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
        moved: The same iterations from weights moved by 1e-6; empty: losses are not compared.
    """

    name: str
    recorded: list[CurvePoint]
    live: list[CurvePoint]
    code_hash: str
    is_same_release: bool
    moved: list[CurvePoint] = field(default_factory=list)

    def differences(self) -> list[float]:
        """Of each loss from the recorded one, relative as ``TOLERANCE`` says."""
        return [
            _differences(live, recorded)[loss]
            for live, recorded in zip(self.live, self.recorded, strict=True)
            for loss in LOSSES
        ]

    def compared(self) -> list[set[str]]:
        """What is compared of each iteration that was read: what no rounding has reached so far."""
        resolved = {*LOSSES, *LOGITS} if self.moved else set()
        found = []
        for live, moved in zip(self.live, self.moved or self.live, strict=True):
            apart = _differences(live, moved)
            # Once enlarged, a rounding stays: that two runs meet again is chance, and so is that
            # one number of a kind stays where another has moved.
            for kind in (LOSSES, LOGITS):
                if any(not apart[name] <= RESOLVED for name in kind):
                    resolved = resolved - {*kind}
            found.append(resolved)
        return found

    def agrees(self) -> bool:
        """Whether all that is compared is the record's."""
        return all(
            # Asked like this, so that what is not a number does not agree.
            _differences(live, recorded)[name] <= TOLERANCE
            for live, recorded, names in zip(self.live, self.recorded, self.compared(), strict=True)
            for name in names
        )

    def __str__(self) -> str:
        """A line an iteration that was read: both losses, recorded and live."""
        release = "same" if self.is_same_release else "not compared: another release of PyTorch"
        lines = [
            f"{self.name}: code hash {self.code_hash[:12]} ({release})",
            "iteration  L_D recorded      L_D live  L_G recorded      L_G live  compared",
        ]
        for recorded, live, names in zip(self.recorded, self.live, self.compared(), strict=True):
            losses = (
                recorded.discriminator_loss,
                live.discriminator_loss,
                recorded.generator_loss,
                live.generator_loss,
            )
            cells = "  ".join(f"{loss:12.6f}" for loss in losses)
            words = [
                word for word, kind in (("losses", LOSSES), ("logits", LOGITS)) if names & {*kind}
            ]
            lines.append(f"{recorded.iteration:9d}  {cells}  {', '.join(words) or 'nothing'}")
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

    The plain composition of the blocks is run, which the code hash is of. Away from the record's
    machine a number is compared for as long as rounding leaves it alone, which `Replay.compared`
    tells. For the saturating case (``depthwise_inception`` as coded) that is not one iteration.

    Args:
        run: The recorded run, as `read_run` reads it.
        digits: The digits that it was trained on.
        fabric: Where to run.
        iterations: How many iterations; the losses are compared where the record has them.
        memory_efficient: Let the lean paths run, for a record that was made so.
        compare_losses: Whether other numbers than the recorded ones are an error; without, the
            hashes alone are compared.

    Raises:
        StaleRecordError: The configuration in the record, the digits, the operators of the code,
            or a number that is compared is not the recorded one.
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
    games = [
        Game(config, digits, fabric, memory_efficient=memory_efficient)
        for _ in range(2 if compare_losses else 1)
    ]
    for second in games[1:]:
        _move(second)
    live, *moved = [_play(each, min(iterations, record.iterations_done)) for each in games]
    result = Replay(run.name, run.curves[: len(live)], live, program, is_same_release, *moved)
    if not result.agrees():
        raise StaleRecordError(f"The losses are not those of the record.\n{result}")
    return result


def _play(game: Game, iterations: int) -> list[CurvePoint]:
    """Train a game, and read it where a record does."""
    points = []
    for iteration in range(iterations):
        game.iterate(iteration)
        if game.config.is_logged(iteration):
            points.append(game.evaluate(iteration))
    return points


def _move(game: Game) -> None:
    """Move the weights of a game that has not begun at random, by ``MOVE`` of each."""
    source = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for network in (game.generator, game.discriminator):
            for weight in network.parameters():
                noise = torch.randn(weight.shape, generator=source).to(weight.device)
                weight.mul_(1 + MOVE * noise)


def _differences(one: CurvePoint, other: CurvePoint) -> dict[str, float]:
    """Of each number from its counterpart, relative as `TOLERANCE` says."""
    found = {}
    for names, least in ((LOSSES, 1.0), (LOGITS, torch.finfo(torch.float32).tiny)):
        sizes = {name: max(abs(getattr(one, name)), abs(getattr(other, name))) for name in names}
        for name in names:
            scale = sizes[name] if names is LOSSES else max(sizes.values())
            found[name] = abs(getattr(one, name) - getattr(other, name)) / max(least, scale)
    return found


def _release(version: str) -> str:
    """The version without the build's own suffix."""
    return version.partition("+")[0]


def _stale(run: Run, what: str, recorded: str, here: str) -> StaleRecordError:
    return StaleRecordError(
        f"{run.name}: the record is of another {what}: hash {recorded[:12]}, got {here[:12]}. "
        "Delete the run's folder and run the study again."
    )
