from __future__ import annotations

import json
import math
import re

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from gaslayers.study.checkpoint import (
    CheckpointError,
    Progress,
    read_checkpoint,
    restore,
    save_checkpoint,
)
from gaslayers.study.records import CurvePoint

PROGRAM = "c" * 64


def load_checkpoint(path, game, *, code_hash):
    progress, tensors = read_checkpoint(path, game, code_hash=code_hash)
    restore(game, tensors)
    return progress


def make_progress(game, **choices):
    values = {
        "config_hash": game.config.config_hash,
        "code_hash": PROGRAM,
        "next_iteration": 2,
        "seconds": 1 / 3,
        "processor_seconds": 0.25,
        "curves": [],
    }
    return Progress(**{**values, **choices})


def tensors_of(game):
    optimizers = {"G": game.generator_optimizer, "D": game.discriminator_optimizer}
    networks = {"G": game.generator, "D": game.discriminator}
    tensors = {
        f"{name}.{index}.{key}": value.clone()
        for name, optimizer in optimizers.items()
        for index, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
    }
    for name, network in networks.items():
        tensors |= {f"{name}.{key}": value.clone() for key, value in network.state_dict().items()}
    return tensors


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "checkpoint.safetensors"


@pytest.fixture
def saved(make_game, path):
    """A game after two iterations, and its checkpoint."""
    game = make_game()
    game.iterate(0)
    game.iterate(1)
    save_checkpoint(path, game, make_progress(game))
    return game


@pytest.mark.parametrize("case", ["original", "depthwise_inception"])
@pytest.mark.parametrize("optimizer", ["rmsprop_tf", "rmsprop", "adam"])
def test_game_goes_on_from_checkpoint_bit_for_bit(make_game, path, case, optimizer):
    saved, loaded = (make_game(case=case, optimizer=optimizer) for _ in range(2))
    saved.iterate(0)
    save_checkpoint(path, saved, make_progress(saved))
    load_checkpoint(path, loaded, code_hash=PROGRAM)
    assert_close(tensors_of(loaded), tensors_of(saved), rtol=0, atol=0)
    for iteration in (1, 2):
        saved.iterate(iteration)
        loaded.iterate(iteration)
    assert_close(tensors_of(loaded), tensors_of(saved), rtol=0, atol=0)


@pytest.mark.parametrize("optimizer", ["rmsprop_tf", "rmsprop", "adam"])
def test_checkpoint_keeps_every_number_of_the_optimisers(make_game, path, optimizer):
    game = make_game(optimizer=optimizer)
    game.iterate(0)
    save_checkpoint(path, game, make_progress(game))
    kept = {name.partition(".")[0] for name in load_file(path)}
    assert kept == {"generator", "discriminator", "generator_optimizer", "discriminator_optimizer"}
    assert len(load_file(path)) == len(tensors_of(game))


def test_loaded_optimiser_state_lies_in_memory_as_its_weights(make_game, path):
    # Mixed layouts take other kernels: slower ones, and not necessarily the same last bit.
    saved, loaded = (make_game(case="original", optimizer="adam") for _ in range(2))
    saved.iterate(0)
    save_checkpoint(path, saved, make_progress(saved))
    load_checkpoint(path, loaded, code_hash=PROGRAM)
    for optimizer in (loaded.generator_optimizer, loaded.discriminator_optimizer):
        for weight, state in optimizer.state.items():
            assert state["exp_avg"].stride() == weight.stride()
            assert state["exp_avg_sq"].stride() == weight.stride()


def test_progress_survives_with_numbers_that_are_not_finite(make_game, path):
    game = make_game()
    game.iterate(0)
    point = CurvePoint(
        iteration=1,
        discriminator_loss=math.inf,
        generator_loss=0.1 + 0.2,
        real_logit_mean=-math.inf,
        real_logit_std=5e-324,
        fake_logit_mean=math.nan,
        fake_logit_std=0.0,
    )
    progress = make_progress(game, curves=[point])
    save_checkpoint(path, game, progress)
    read = load_checkpoint(path, make_game(), code_hash=PROGRAM)
    assert repr(read) == repr(progress)  # nan is not equal to itself


def refuse(path, game, match, code_hash=PROGRAM):
    before = tensors_of(game)
    where = re.escape(str(path))
    with pytest.raises(CheckpointError, match=f"(?s)^{where} {match}.*Delete it to start this run"):
        load_checkpoint(path, game, code_hash=code_hash)
    assert_close(tensors_of(game), before, rtol=0, atol=0)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_load_checkpoint_refuses_truncated_file(make_game, saved, path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refuse(path, make_game(), "is not a readable checkpoint: ")


def test_load_checkpoint_refuses_foreign_content(make_game, path):
    path.parent.mkdir()
    path.write_bytes(b"\x00" * 8 + b"something else entirely")
    refuse(path, make_game(), "is not a readable checkpoint: ")


@pytest.mark.parametrize(
    "metadata",
    [None, {"progress": "{"}, {"progress": json.dumps({"next_iteration": 1})}],
    ids=["none", "no JSON", "fields missing"],
)
def test_load_checkpoint_refuses_file_without_progress(make_game, path, metadata):
    path.parent.mkdir()
    save_file({"generator.project.bias": torch.zeros(196)}, path, metadata=metadata)
    refuse(path, make_game(), "is not a readable checkpoint: ")


def test_load_checkpoint_refuses_another_configuration(make_game, saved, path):
    refuse(path, make_game(learning_rate=2e-3), "belongs to another configuration")


def test_load_checkpoint_refuses_another_program(make_game, saved, path):
    match = "was written by a program that computes otherwise"
    refuse(path, make_game(), match, code_hash="d" * 64)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"next_iteration": 7}, "does not fit this run: its iteration must be at most 6, got 7"),
        ({"next_iteration": -1}, "is not a readable checkpoint: .*next_iteration"),
        ({"seconds": math.nan}, "is not a readable checkpoint: .*seconds"),
        ({"processor_seconds": -1.0}, "is not a readable checkpoint: .*processor_seconds"),
    ],
    ids=str,
)
def test_load_checkpoint_refuses_progress_out_of_range(make_game, saved, path, changes, match):
    save_checkpoint(path, saved, make_progress(saved).model_copy(update=changes))
    refuse(path, make_game(), match)


@pytest.mark.parametrize("iterations", [[2], [-1], [1, 0], [0, 0]], ids=str)
def test_load_checkpoint_refuses_curves_that_it_cannot_have_read(
    make_game, saved, path, iterations
):
    numbers = dict.fromkeys(list(CurvePoint.model_fields)[1:], 0.0)
    curves = [CurvePoint(iteration=iteration, **numbers) for iteration in iterations]
    save_checkpoint(path, saved, make_progress(saved, curves=curves))
    refuse(path, make_game(), r"does not fit this run: its curves must hold iterations below 2")


def rewrite(path, change):
    """Write the tensors of a checkpoint again after a change, with what it says of itself."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata=metadata)


KINDS = ["generator.", "discriminator.", "generator_optimizer.", "discriminator_optimizer."]


@pytest.mark.parametrize("kind", KINDS)
def test_load_checkpoint_refuses_missing_tensors(make_game, saved, path, kind):
    name = min(name for name in load_file(path) if name.startswith(kind))
    rewrite(path, lambda tensors: tensors.pop(name))
    match = f"does not fit this run: it misses 1 tensors, the first of them '{re.escape(name)}'"
    refuse(path, make_game(), match)


@pytest.mark.parametrize("kind", [*KINDS, ""])
def test_load_checkpoint_refuses_tensors_besides(make_game, saved, path, kind):
    name = f"{kind}99.more"
    rewrite(path, lambda tensors: tensors.update({name: torch.zeros(1)}))
    match = f"does not fit this run: it has besides 1 tensors, the first of them '{name}'"
    refuse(path, make_game(), match)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda tensor: torch.cat([tensor, tensor]), r"torch\.float32 of shape \("),
        (lambda tensor: tensor.double(), r"torch\.float64 of shape \("),
    ],
    ids=["shape", "dtype"],
)
def test_load_checkpoint_refuses_tensors_of_another_kind(
    make_game, saved, path, kind, change, found
):
    tensors = load_file(path)
    name = min(n for n in tensors if n.startswith(kind) and tensors[n].dtype == torch.float32)
    rewrite(path, lambda tensors: tensors.update({name: change(tensors[name])}))
    refuse(path, make_game(), f"does not fit this run: its '{re.escape(name)}' must be .* {found}")


def test_load_checkpoint_refuses_the_state_of_another_optimiser(make_game, path):
    other = make_game(optimizer="adam")
    other.iterate(0)
    game = make_game()
    save_checkpoint(path, other, make_progress(game))
    refuse(path, game, r"does not fit this run: it misses \d+ tensors, .*mean_square")


@pytest.mark.parametrize("step", ["pathlib.Path.replace", "os.fsync"])
def test_save_checkpoint_keeps_previous_one_when_it_fails(
    make_game, saved, path, monkeypatch, step
):
    def fail(*_):
        raise OSError("killed here")

    before = path.read_bytes()
    saved.iterate(2)
    with monkeypatch.context() as patch:
        patch.setattr(step, fail)
        with pytest.raises(OSError, match="killed here"):
            save_checkpoint(path, saved, make_progress(saved, next_iteration=3))
    assert path.read_bytes() == before
    assert load_checkpoint(path, make_game(), code_hash=PROGRAM).next_iteration == 2
