"""A run that two processes share against the same run in one."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from safetensors import safe_open
from safetensors.torch import load_file
from torch.testing import assert_close

from gaslayers.study import judging, training
from gaslayers.study.checkpoint import Progress, save_checkpoint
from gaslayers.study.config import TRAINING
from gaslayers.study.records import RunFolder
from gaslayers.study.sharing import check_shares
from gaslayers.study.sweep import Planned, finish_all
from gaslayers.study.training import Game
from tests.study.conftest import ignore

# TensorFlow's RMSprop divides by a mean square that starts at 1. Adam would make steps of full size
# of a gradient that is rounding alone, as that of a bias before a batch norm.
MODERN = {"variant": "modern", **TRAINING["modern"], "optimizer": "rmsprop_tf"}
RUNS = {
    "as_coded": {"generator_steps": 2, "learning_rate": 0.1},
    "as_coded_depthwise": {"case": "depthwise_inception", "learning_rate": 1e-5},
    "modern": MODERN,
    "modern_depthwise": {**MODERN, "case": "depthwise_inception"},
    "penalty": {**MODERN, "penalty": "r1"},
    "parts": {**MODERN, "accumulate": 2, "packing": 2, "generator_ema": 0.9},
    "parts_of_a_sum": {"accumulate": 2, "packing": 2},
    "spectral": {**MODERN, "switches": {"spectral_norm": True, "norm": "none"}},
}
STEPS = 4

# Sums over the batch are taken in another order; a saturated sigmoid makes much more of it.
DOUBLE = {"rtol": 1e-6, "atol": 1e-10}
READING = {"rtol": 1e-5, "atol": 1e-6}  # of it, in single precision
SHARE_OF_MOVE = 0.02  # of what a run in single precision did to a network
# The other ones take long, or magnify rounding by a saturated sigmoid from their first loss on.
IN_SINGLE = ("as_coded", "modern", "penalty")
SINGLE_READING = {"rtol": 1e-2, "atol": 1e-5}

PLAY = """
import functools, json, sys
from pathlib import Path
import torch
from lightning_fabric import Fabric
from gaslayers.study import judging
from gaslayers.study.config import RunConfig
from gaslayers.study.data import load_digits
from gaslayers.study.sweep import Planned, finish_all
from tests.study.test_sharing import IN_SINGLE, in_precision, play_on

torch.set_num_threads(1)
fabric = Fabric(accelerator="cpu", devices=2)
fabric.launch()
for dtype in (torch.float32, torch.float64):
    with in_precision(dtype):
        for name, config in json.loads(sys.argv[2]).items():
            path = f"{sys.argv[1]}/{name}-{dtype}"
            if dtype == torch.float64 or name in IN_SINGLE:
                play_on(fabric, RunConfig(**config), load_digits(), path)

judging.evaluate = functools.partial(judging.evaluate, samples=100)
started = []

def on_run(config):
    started.append(config.iterations)
    return lambda *_: None

def finish(**changes):
    config = RunConfig(**{**json.loads(sys.argv[3]), **changes})
    planned = Planned(config, Path(sys.argv[1]), "tiny")
    try:
        [record] = finish_all([planned], load_digits(), fabric, on_run=on_run, judged=True)
        return record.outcome
    except (RuntimeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"

said = [finish(iterations=2), finish(), finish(), list(started), finish(learning_rate=1.0)]
said += [finish(batch_size=9, accumulate=1), finish(seed=1, learning_rate=1e30)]
Path(sys.argv[1], f"said{fabric.global_rank}.json").write_text(json.dumps(said))
"""


@contextlib.contextmanager
def in_precision(dtype):
    """Networks, noise and images of another precision than a run's."""
    before, move = torch.get_default_dtype(), training.to_device
    torch.set_default_dtype(dtype)
    training.to_device = lambda batch, device: move(batch.to(dtype), device)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
        training.to_device = move


def play_on(fabric, config, digits, path):
    """Some iterations; then networks, optimisers and readings into a file, by the first process."""
    game = Game(config, digits, fabric)
    curves = []
    for iteration in range(STEPS):
        game.iterate(iteration)
        curves.append(game.evaluate(iteration))
    progress = Progress(
        config_hash="",
        code_hash="",
        next_iteration=STEPS,
        seconds=0,
        processor_seconds=0,
        curves=curves,
    )
    if fabric.is_global_zero:
        save_checkpoint(Path(path), game, progress)
    return game


def read(path):
    with safe_open(path, framework="pt") as file:
        progress = Progress.model_validate_json(file.metadata()["progress"])
    return load_file(path), progress.curves


def launch(script, *arguments):
    """Run a script in two processes, as torchrun does."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *launcher, *map(str, (script, *arguments))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env=environment
    )


@pytest.fixture(scope="module")
def configs(make_config):
    return {name: make_config(batch_size=8, **changes) for name, changes in RUNS.items()}


@pytest.fixture(scope="module")
def run_config(make_config):
    """Of a whole run, which is made longer on its way."""
    return make_config(**{**RUNS["modern"], "batch_size": 8, "iterations": STEPS, "accumulate": 2})


@pytest.fixture(scope="module")
def shared(configs, run_config, tmp_path_factory):
    """Where two processes left the runs that they shared, each with half of every batch."""
    out = tmp_path_factory.mktemp("shared")
    script = out / "play.py"
    script.write_text(PLAY)
    asked = {name: config.model_dump() for name, config in configs.items()}
    ended = launch(script, out, json.dumps(asked), run_config.model_dump_json())
    assert ended.returncode == 0, ended.stderr
    return out


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_two_processes_compute_what_one_does(configs, shared, digits, fabric, tmp_path, name):
    with in_precision(torch.float64):
        play_on(fabric, configs[name], digits, tmp_path / "whole")
    (half, points), (whole, expected) = (
        read(shared / f"{name}-torch.float64"),
        read(tmp_path / "whole"),
    )
    assert half.keys() == whole.keys()
    assert any(key.endswith("running_var") for key in whole)
    for key, tensor in whole.items():
        assert tensor.dtype in (torch.float64, torch.int64)
        assert_close(half[key], tensor, **DOUBLE, msg=lambda text, key=key: f"{key}: {text}")
    for point, other in zip(points, expected, strict=True):
        assert_close(point.model_dump(), other.model_dump(), **READING)


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_SINGLE)
def test_two_processes_train_as_one_does(configs, shared, digits, fabric, tmp_path, name):
    fresh = Game(configs[name], digits, fabric)
    play_on(fabric, configs[name], digits, tmp_path / "whole")
    (half, points), (whole, expected) = (
        read(shared / f"{name}-torch.float32"),
        read(tmp_path / "whole"),
    )
    for network in ("generator", "discriminator"):
        state = getattr(fresh, network).state_dict()
        start = {f"{network}.{key}": value for key, value in state.items()}
        moved = max(float((whole[key] - value).abs().max()) for key, value in start.items())
        apart = max(float((whole[key] - half[key]).abs().max()) for key in start)
        assert 0 < apart < SHARE_OF_MOVE * moved
    for point, other in zip(points, expected, strict=True):
        assert_close(point.model_dump(), other.model_dump(), **SINGLE_READING)


@pytest.mark.slow
def test_two_processes_make_one_run_and_its_record(
    run_config, shared, digits, fabric, monkeypatch, tmp_path
):
    monkeypatch.setattr(judging, "evaluate", functools.partial(judging.evaluate, samples=100))
    planned = Planned(run_config, tmp_path, "tiny")
    (expected,) = finish_all([planned], digits, fabric, on_run=lambda _: ignore, judged=True)
    folder = RunFolder(shared / run_config.name)
    record = folder.read_record()
    assert (record.machine.processes, expected.machine.processes) == (2, 1)
    same = {"machine", "seconds", "processor_seconds", "memory_predicted", "evaluation"}
    assert record.model_dump(exclude=same) == expected.model_dump(exclude=same)
    assert record.memory_predicted.tensor_peak < expected.memory_predicted.tensor_peak
    half, whole = (one.evaluation.frechet_distance for one in (record, expected))
    assert half.floor == whole.floor
    assert half.value == pytest.approx(whole.value, rel=1e-2)
    curves, others = folder.read_curves(), planned.run_folder.read_curves()
    assert [point.iteration for point in curves] == [0, 2, 3]
    for point, other in zip(curves, others, strict=True):
        assert_close(point.model_dump(), other.model_dump(), **SINGLE_READING)
    # Grids of the same noise: both generators are the same to rounding, and so are their pixels.
    assert folder.sample_paths().keys() == planned.run_folder.sample_paths().keys()
    assert not list(shared.rglob("*.part"))


@pytest.mark.slow
def test_both_processes_know_what_the_first_found(shared):
    said = [json.loads((shared / f"said{rank}.json").read_text()) for rank in (0, 1)]
    assert said[0] == said[1]
    short, long, again, started, foreign, odd, diverged = said[0]
    assert (short, long, again) == ("finished", "finished", "finished")
    assert started == [2, STEPS]  # a finished run is not made again
    assert re.match("ForeignRunError: .* is the record of another configuration", foreign)
    assert re.match("ValueError: RunConfig: `batch_size` must be a multiple of 2: 2 proc", odd)
    assert diverged == "non_finite"


def test_batch_must_be_one_that_processes_share(make_config):
    class Two:
        world_size = 2
        strategy = Fabric(accelerator="cpu", devices=1).strategy

    for good in ({"batch_size": 8}, {"batch_size": 8, "accumulate": 2}, {"batch_size": 4}):
        check_shares(make_config(**good), Two)
    match = r"`batch_size` must be a multiple of 8: 2 processes x 2 \(accumulate\) x 2 \(packing\)"
    with pytest.raises(ValueError, match=match):
        check_shares(make_config(batch_size=12, accumulate=2, packing=2), Two)


def test_precision_is_that_of_the_configuration(make_config, digits):
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    match = "`fabric` must have precision '32-true', got 'bf16-mixed'. A run's precision is in"
    with pytest.raises(ValueError, match=match):
        Game(make_config(), digits, fabric)
