from __future__ import annotations

import functools

import pytest
import torch
from torch import nn

from gaslayers import peak_memory
from gaslayers.study.sweep import cards
from gaslayers.study.sweep.cards import CONTEXT_BYTES, predict_run, runs_per_card
from gaslayers.study.sweep.cluster import gpu_share
from gaslayers.study.training import Game

GIB = 2**30


@pytest.mark.parametrize(
    ("capacity", "largest", "expected"),
    [
        (80 * GIB, 1 * GIB, 36),  # 72 GiB of it, two for each
        (80 * GIB, 71 * GIB, 1),
        (80 * GIB, 72 * GIB, 1),  # too large: it fails by itself, if it does
        (10 * GIB, 2 * GIB, 3),
        (10 * GIB, 2 * GIB + 1, 2),
        (0, 1, 1),
    ],
)
def test_runs_fit_beside_each_other_by_the_largest(monkeypatch, capacity, largest, expected):
    monkeypatch.setattr(cards, "predict_run", lambda config: largest if config == "large" else 1)
    assert runs_per_card(["small", "large", "small"], capacity) == expected


def test_prediction_is_of_both_networks_and_their_larger_step(make_config):
    config = make_config(generator_base_channels=64, batch_size=8)
    found = predict_run(config)
    game_bytes = sum(
        tensor.nbytes
        for network in (cards.make_generator(config), cards.make_discriminator(config))
        for tensor in network.parameters()
    )
    step = nn.Sequential(cards.make_generator(config))
    optimizer = functools.partial(cards.make_optimizer, config=config)
    alone = peak_memory(step, (torch.zeros(8, 100),), optimizer=optimizer).peak
    # Weights of both, gradients and the optimiser's state, and G's own step at least.
    assert found > max(3 * game_bytes, alone)
    assert found < 20 * alone


def test_prediction_grows_with_what_a_run_holds_and_with_no_seed(make_config):
    config = make_config(batch_size=8)
    base = predict_run(config)
    for same in ({"seed": 7}, {"iterations": 99}):
        assert predict_run(config.model_copy(update=same)) == base
    for more in ({"batch_size": 16}, {"generator_base_channels": 32}):
        assert predict_run(config.model_copy(update=more)) > base
    modern = make_config(batch_size=8, variant="modern", loss_reduction="mean")
    for more in ({"penalty": "r1"}, {"generator_ema": 0.9}):
        assert predict_run(modern.model_copy(update=more)) > predict_run(modern)
    half = predict_run(config.model_copy(update={"batch_size": 16, "accumulate": 2}))
    assert half == base
    assert predict_run(config.model_copy(update={"packing": 2})) < base


@pytest.mark.parametrize("runs", [1, 2, 3, 7, 36, 999, 20_000])
def test_as_many_tasks_fit_a_gpu_as_runs_fit_a_card(runs):
    share = gpu_share(runs)
    units = round(share * 10_000)  # Ray counts in these
    assert share * 10_000 == pytest.approx(units)
    assert units * min(runs, 10_000) <= 10_000
    assert 10_000 // units >= min(runs, 10_000)


@pytest.mark.cuda
def test_a_run_takes_no_more_of_a_card_than_is_predicted(make_config, digits):
    from lightning_fabric import Fabric

    config = make_config(batch_size=32, generator_base_channels=64)
    fabric = Fabric(accelerator="cuda", devices=1)
    game = Game(config, digits, fabric)
    torch.cuda.reset_peak_memory_stats()
    for iteration in range(3):
        game.iterate(iteration)
    assert torch.cuda.max_memory_allocated() <= predict_run(config) + CONTEXT_BYTES
