"""One run from its first iteration, or its last checkpoint, to its record."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable

import torch
from lightning_fabric import Fabric
from torch import Tensor

import gaslayers
from gaslayers.accounting import count
from gaslayers.study.checkpoint import Progress, read_checkpoint, restore, save_checkpoint
from gaslayers.study.config import RunConfig
from gaslayers.study.data import Digits
from gaslayers.study.memory import measure_discriminator_step, predict_discriminator_step
from gaslayers.study.program import code_hash
from gaslayers.study.records import CurvePoint, Machine, Record, RunFolder
from gaslayers.study.shared_norm import alone
from gaslayers.study.sharing import on_first
from gaslayers.study.stopping import deferring_sigterm
from gaslayers.study.training import Game, NonFiniteLossError

CHECKPOINT_SECONDS = 15.0

OnIteration = Callable[[int, CurvePoint | None], None]
"""Called after each iteration with the number done and, where one was read, the curve's point."""


def run(
    config: RunConfig,
    folder: RunFolder,
    digits: Digits,
    fabric: Fabric,
    *,
    preset: str,
    on_iteration: OnIteration,
    shorter: RunConfig | None = None,
    judged: bool = False,
    hypotheses_sha256: str | None = None,
) -> Record:
    """Train, continuing from a checkpoint where there is one, and leave a finished run folder.

    The result is the same, bit for bit on one CPU, however often the run was killed on its way,
    and whether it was asked for at once or made longer. Where the fabric has several processes,
    each calls this, and they share the run: the result is that of one process to rounding, and the
    first process alone reads and writes the folder. Two runs must not have one folder: `sweep`
    holds its lock.

    Args:
        config: What the run is.
        folder: Where its files go.
        digits: The real data.
        fabric: Where it runs; launched, where it has several processes.
        preset: The preset's name, for the record.
        on_iteration: Called after each iteration, in the first process.
        shorter: The configuration of the finished run in the folder that this one makes longer.
        judged: Whether samples are judged at the end by every metric.
        hypotheses_sha256: Of the file of hypotheses that the run is to test, for the record.

    Raises:
        CheckpointError: The folder holds a checkpoint that cannot be continued from.
        Terminated: SIGTERM came; where training had begun, a checkpoint of it is saved.
    """
    game = Game(config, digits, fabric)
    progress = _begin(game, folder, shorter)
    is_first = fabric.is_global_zero
    if is_first and progress.next_iteration:
        on_iteration(progress.next_iteration, None)
    message = ""
    try:
        _train(game, folder, progress, on_iteration if is_first else ignore)
    except NonFiniteLossError as error:
        message = f"after {progress.next_iteration} iterations {error}"
    record = _make_record(game, digits, progress, preset=preset, message=message)
    record = record.model_copy(update={"hypotheses_sha256": hypotheses_sha256})

    def finish() -> Record:
        folder.write_curves(progress.curves)
        finished = record
        if judged and record.outcome == "finished":
            finished = _judge(game, record)
        folder.write_record(finished)
        return finished

    return on_first(fabric, finish)


def _begin(game: Game, folder: RunFolder, shorter: RunConfig | None) -> Progress:
    """Put the game where the run's checkpoint is, or leave it at the beginning."""
    config, fabric = game.config, game.fabric
    program = code_hash(config)

    def read() -> tuple[Progress, dict[str, Tensor]]:
        folder.remove_leftovers()
        if shorter is None and not folder.checkpoint_path.exists():
            return Progress(
                config_hash=config.config_hash,
                code_hash=program,
                next_iteration=0,
                seconds=0.0,
                processor_seconds=0.0,
                curves=[],
            ), {}
        return read_checkpoint(folder.checkpoint_path, game, code_hash=program, shorter=shorter)

    progress, tensors = on_first(fabric, read)
    if tensors:
        restore(game, tensors)
    if fabric.is_global_zero and shorter is not None:
        _lengthen(game, folder, progress)
    if fabric.is_global_zero and tensors:
        folder.remove_other_samples(config)
    return progress


def ignore(_done: int, _point: CurvePoint | None) -> None:
    """Watch nothing."""


def _lengthen(game: Game, folder: RunFolder, progress: Progress) -> None:
    """Make a finished run the unfinished beginning of a longer one."""
    config = game.config
    progress.config_hash = config.config_hash
    # The last iteration of the shorter run was read whether or not it was its turn.
    progress.curves = [point for point in progress.curves if config.is_logged(point.iteration)]
    save_checkpoint(folder.checkpoint_path, game, progress)
    # Not before: with the record goes the knowledge that the shorter run was finished.
    folder.record_path.unlink()
    folder.curves_path.unlink(missing_ok=True)


def _train(game: Game, folder: RunFolder, progress: Progress, on_iteration: OnIteration) -> None:
    config = game.config
    saved = started = time.monotonic()
    busy_before = time.process_time() - progress.processor_seconds
    started -= progress.seconds
    is_first = game.fabric.is_global_zero
    with deferring_sigterm() as must_stop:
        for iteration in range(progress.next_iteration, config.iterations):
            game.iterate(iteration)
            point = game.evaluate(iteration) if config.is_logged(iteration) else None
            if point is not None:
                progress.curves.append(point)
            if config.is_sampled(iteration) and is_first:
                folder.write_samples(iteration, game.sample())
            progress.next_iteration = iteration + 1
            progress.seconds = time.monotonic() - started
            progress.processor_seconds = time.process_time() - busy_before
            last = progress.next_iteration == config.iterations
            stops = game.sharing.is_any(flag=must_stop())
            if is_first and (last or stops or time.monotonic() - saved >= CHECKPOINT_SECONDS):
                save_checkpoint(folder.checkpoint_path, game, progress)
                saved = time.monotonic()
            on_iteration(progress.next_iteration, point)
            if stops:
                break


def _judge(game: Game, record: Record) -> Record:
    """The record with an evaluation; the last step may have left a G that makes no numbers."""
    # Here, for it loads much that a run alone does not need.
    from gaslayers.study.judging import judge_samples

    if not game.sample().isfinite().all():
        message = f"after {record.iterations_done} iterations G makes pixels that are not finite"
        return record.model_copy(update={"outcome": "non_finite", "message": message})
    return record.model_copy(update={"evaluation": judge_samples(game)})


def _make_record(
    game: Game, digits: Digits, progress: Progress, *, preset: str, message: str
) -> Record:
    config = game.config
    image = torch.zeros(1, config.packing, 28, 28, device=game.fabric.device)
    latent = torch.zeros(2, game.generator.latent_size, device=game.fabric.device)
    with alone(game.discriminator), alone(game.generator):
        cost = count(game.discriminator, (image,))
        generator_parameters = count(game.generator, (latent,)).params
    done = progress.next_iteration
    return Record(
        preset=preset,
        config=config,
        config_hash=config.config_hash,
        code_hash=progress.code_hash,
        data_source=digits.source,
        machine=_describe_machine(game.fabric),
        outcome="non_finite" if message else "finished",
        message=message,
        iterations_done=done,
        seconds=progress.seconds,
        processor_seconds=progress.processor_seconds,
        discriminator_parameters=cost.params,
        generator_parameters=generator_parameters,
        discriminator_forward_flops=config.batch_size // config.packing * cost.flops,
        flops_convention=cost.convention,
        memory=measure_discriminator_step(game),
        memory_predicted=predict_discriminator_step(game),
    )


def _describe_machine(fabric: Fabric) -> Machine:
    device = fabric.device
    return Machine(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        processor=platform.processor() or platform.machine(),
        threads=torch.get_num_threads(),
        processes=fabric.world_size,
        platform=platform.system(),
        python=platform.python_version(),
        torch=torch.__version__,
        gaslayers=gaslayers.__version__,
    )
