"""The state of an unfinished run in one safetensors file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from gaslayers.study.config import RunConfig
from gaslayers.study.optimizers import make_optimizer
from gaslayers.study.records import CurvePoint, write_atomically
from gaslayers.study.training import Game

_OPTIMIZER = re.compile(r"(generator|discriminator)_optimizer\.")


class Progress(BaseModel):
    """What a checkpoint knows besides tensors."""

    config_hash: str
    code_hash: str
    next_iteration: int = Field(ge=0)
    seconds: float = Field(ge=0, allow_inf_nan=False)
    processor_seconds: float = Field(ge=0, allow_inf_nan=False)
    curves: list[CurvePoint]


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be continued from."""


def _optimizer_tensors(prefix: str, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Any]]:
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            yield f"{prefix}.{index}.{name}", value


def _tensors(game: Game) -> dict[str, Tensor]:
    tensors = {f"generator.{k}": v for k, v in game.generator.state_dict().items()}
    tensors |= {f"discriminator.{k}": v for k, v in game.discriminator.state_dict().items()}
    if game.generator_mean is not None:
        tensors |= {f"generator_mean.{k}": v for k, v in game.generator_mean.state_dict().items()}
    tensors |= dict(_optimizer_tensors("generator_optimizer", game.generator_optimizer))
    tensors |= dict(_optimizer_tensors("discriminator_optimizer", game.discriminator_optimizer))
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def save_checkpoint(path: Path, game: Game, progress: Progress) -> None:
    """Write both networks, both optimisers and the progress, in full or not at all."""
    write_atomically(path, save(_tensors(game), metadata={"progress": progress.model_dump_json()}))


def read_checkpoint(
    path: Path, game: Game, *, code_hash: str, shorter: RunConfig | None = None
) -> tuple[Progress, dict[str, Tensor]]:
    """Read what `restore` puts back, and check that it is of this run.

    Args:
        path: The checkpoint.
        game: What it goes on with.
        code_hash: Of the program that goes on.
        shorter: The configuration of a finished run that this one makes longer.

    Raises:
        CheckpointError: The file is damaged, another configuration or program wrote it, or it
            holds other tensors or iterations than this run has.
    """
    remedy = "Delete it to start this run afresh."
    try:
        with safe_open(path, framework="pt") as file:
            progress = Progress.model_validate_json((file.metadata() or {})["progress"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no iterator
    except (SafetensorError, KeyError, json.JSONDecodeError, ValueError) as error:
        raise CheckpointError(f"{path} is not a readable checkpoint: {error}. {remedy}") from error
    hashes = {config.config_hash for config in (game.config, shorter) if config is not None}
    if progress.config_hash not in hashes:
        raise CheckpointError(f"{path} belongs to another configuration. {remedy}")
    if progress.code_hash != code_hash:
        raise CheckpointError(f"{path} was written by a program that computes otherwise. {remedy}")
    fault = _find_range_fault(progress, game.config) or _find_tensor_fault(
        tensors, _expected_tensors(game, is_new=progress.next_iteration == 0)
    )
    if fault:
        raise CheckpointError(f"{path} does not fit this run: {fault}. {remedy}")
    return progress, tensors


def restore(game: Game, tensors: dict[str, Tensor]) -> None:
    """Put the networks and optimisers back as they were, with what `read_checkpoint` read."""
    game.generator.load_state_dict(_below(tensors, "generator."))
    game.discriminator.load_state_dict(_below(tensors, "discriminator."))
    if game.generator_mean is not None:
        game.generator_mean.load_state_dict(_below(tensors, "generator_mean."))
    _load_optimizer(game.generator_optimizer, _below(tensors, "generator_optimizer."))
    _load_optimizer(game.discriminator_optimizer, _below(tensors, "discriminator_optimizer."))


def _find_range_fault(progress: Progress, config: RunConfig) -> str:
    """What is wrong with the iterations that a checkpoint says it has done; nothing: empty."""
    done = progress.next_iteration
    if done > config.iterations:
        return f"its iteration must be at most {config.iterations}, got {done}"
    read = [point.iteration for point in progress.curves]
    if read != sorted({i for i in read if 0 <= i < done}):
        return f"its curves must hold iterations below {done} in order, got {read}"
    return ""


def _find_tensor_fault(tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> str:
    """What is wrong with the tensors of a checkpoint; nothing: empty."""
    for what, names in (
        ("misses", expected.keys() - tensors.keys()),
        ("has besides", tensors.keys() - expected.keys()),
    ):
        if names:
            return f"it {what} {len(names)} tensors, the first of them {min(names)!r}"
    for name, tensor in expected.items():
        right, found = (f"{t.dtype} of shape {tuple(t.shape)}" for t in (tensor, tensors[name]))
        if found != right:
            return f"its {name!r} must be {right}, got {found}"
    return ""


def _expected_tensors(game: Game, *, is_new: bool) -> dict[str, Tensor]:
    """What a checkpoint of this game holds, by name; only kinds and shapes are meant."""
    expected = {
        name: tensor for name, tensor in _tensors(game).items() if not _OPTIMIZER.match(name)
    }
    if is_new:
        return expected
    for prefix in ("generator", "discriminator"):
        # Which numbers an optimiser keeps is known after a step: of stand-ins, which stay at 0.
        weights = [nn.Parameter(torch.zeros_like(p)) for p in getattr(game, prefix).parameters()]
        optimizer = make_optimizer(weights, game.config)
        for weight in weights:
            weight.grad = torch.zeros_like(weight)
        optimizer.step()
        expected |= dict(_optimizer_tensors(f"{prefix}_optimizer", optimizer))
    return expected


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    for weight, values in optimizer.state.items():
        for key, value in values.items():
            if value.shape == weight.shape:
                # The file holds one layout; in its weight's own a step runs the same kernels.
                values[key] = torch.empty_like(weight).copy_(value)
