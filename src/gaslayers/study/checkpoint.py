"""The state of an unfinished run in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from gaslayers.study.records import CurvePoint, write_atomically
from gaslayers.study.training import Game


class Progress(BaseModel):
    """What a checkpoint knows besides tensors."""

    config_hash: str
    code_hash: str
    next_iteration: int
    seconds: float
    processor_seconds: float
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
    tensors |= dict(_optimizer_tensors("generator_optimizer", game.generator_optimizer))
    tensors |= dict(_optimizer_tensors("discriminator_optimizer", game.discriminator_optimizer))
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def save_checkpoint(path: Path, game: Game, progress: Progress) -> None:
    """Write both networks, both optimisers and the progress, in full or not at all."""
    write_atomically(path, save(_tensors(game), metadata={"progress": progress.model_dump_json()}))


def load_checkpoint(path: Path, game: Game, *, code_hash: str) -> Progress:
    """Put the networks and optimisers back as they were.

    Raises:
        CheckpointError: The file is damaged, or another configuration or program wrote it.
    """
    remedy = "Delete it to start this run afresh."
    try:
        with safe_open(path, framework="pt") as file:
            progress = Progress.model_validate_json((file.metadata() or {})["progress"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no iterator
    except (SafetensorError, KeyError, json.JSONDecodeError, ValueError) as error:
        raise CheckpointError(f"{path} is not a readable checkpoint: {error}. {remedy}") from error
    if progress.config_hash != game.config.config_hash:
        raise CheckpointError(f"{path} belongs to another configuration. {remedy}")
    if progress.code_hash != code_hash:
        raise CheckpointError(f"{path} was written by a program that computes otherwise. {remedy}")
    game.generator.load_state_dict(_below(tensors, "generator."))
    game.discriminator.load_state_dict(_below(tensors, "discriminator."))
    _load_optimizer(game.generator_optimizer, _below(tensors, "generator_optimizer."))
    _load_optimizer(game.discriminator_optimizer, _below(tensors, "discriminator_optimizer."))
    return progress


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
