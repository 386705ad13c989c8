from __future__ import annotations

import functools

import pytest
import torch
from lightning_fabric import Fabric

from gaslayers import peak_memory, saved_bytes
from gaslayers.lean.native import availability as native
from gaslayers.study import memory
from gaslayers.study.discriminator_step import DiscriminatorStep
from gaslayers.study.memory import (
    measure_discriminator_step,
    predict_discriminator_step,
)
from gaslayers.study.optimizers import make_optimizer
from gaslayers.study.training import Game


@pytest.fixture(autouse=True)
def _no_cache():
    """What is predicted once serves every seed; each test here is to predict by itself."""
    memory._predict.cache_clear()


def test_measure_reads_nothing_off_a_processor(make_game):
    game = make_game()
    before = {name: tensor.clone() for name, tensor in game.discriminator.state_dict().items()}
    assert measure_discriminator_step(game) is None
    after = game.discriminator.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("case", ["inception_8", "depthwise_inception"])
def test_prediction_is_that_of_the_step_which_runs(make_game, case):
    game = make_game(case=case)
    found = predict_discriminator_step(game)
    assert found.saved_bytes < found.saved_bytes_plain
    assert found.tensor_peak < found.tensor_peak_plain
    # What the run's own D keeps of its own images, both batches together.
    real = game._shares(game.batches.training(0))[0]
    step = DiscriminatorStep(game.discriminator, game.discriminator_loss)
    inputs = (real, real.clone())
    optimizer = functools.partial(make_optimizer, config=game.config)
    with native.switched_off():
        assert found.saved_bytes == saved_bytes(step, inputs)
        assert found.tensor_peak == peak_memory(step, inputs, optimizer=optimizer).peak
    # Kernels, where they run, take no more.
    assert found.saved_bytes >= saved_bytes(step, inputs)
    assert found.tensor_peak >= peak_memory(step, inputs, optimizer=optimizer).peak


def test_prediction_serves_all_seeds_and_lengths_and_no_other_choice(make_game):
    found = predict_discriminator_step(make_game())
    assert predict_discriminator_step(make_game(seed=3, iterations=9)) is found
    for choice in ({"batch_size": 5}, {"optimizer": "adam"}):
        assert predict_discriminator_step(make_game(**choice)) != found


def test_prediction_leaves_the_game_alone(make_game):
    game = make_game()
    before = {name: tensor.clone() for name, tensor in game.discriminator.state_dict().items()}
    random_state = torch.get_rng_state()
    predict_discriminator_step(game)
    after = game.discriminator.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert torch.equal(torch.get_rng_state(), random_state)


@pytest.mark.cuda
def test_measure_reads_three_numbers_off_a_cuda_device(make_config, digits):
    fabric = Fabric(accelerator="cuda", devices=1)
    small, large = (
        measure_discriminator_step(Game(make_config(batch_size=size), digits, fabric))
        for size in (4, 256)
    )
    assert 0 < small.peak_allocated < large.peak_allocated
    for reading in (small, large):
        assert reading.peak_allocated <= reading.peak_reserved
        # The driver also charges the context.
        assert reading.process is None or reading.peak_reserved < reading.process
