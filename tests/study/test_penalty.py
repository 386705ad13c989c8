"""A run with R1: the same D step as by double backward, and running statistics that move once."""

from __future__ import annotations

import pytest
import torch
from lightning_fabric import Fabric
from typer.testing import CliRunner

from gaslayers.cli.app import app
from gaslayers.losses import LSGANDiscriminatorLoss
from gaslayers.study.data import Digits
from gaslayers.study.memory import predict_discriminator_step
from gaslayers.study.records import RunFolder
from gaslayers.study.training import Game
from tests.study.conftest import MakeConfig, MakeGame

PLAIN = {"variant": "modern", "loss_reduction": "mean"}
# A gradient before a norm is 0 but for rounding, which grows with the weight.
WEIGHT = 300.0
CHOICES = {**PLAIN, "penalty": "r1", "penalty_weight": WEIGHT}


def _by_hand(game: Game) -> list[torch.Tensor]:
    """D's gradients in the first D step, by operators of PyTorch alone."""
    network, config = game.discriminator, game.config
    real = game.batches.training(0).contiguous(memory_format=torch.channels_last).requires_grad_()
    with torch.no_grad():
        fake = game.generator(game._training_noise(0, 0))
    logits = network.logits(real)
    (slope,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
    penalty = slope.pow(2).sum((1, 2, 3)).mean()
    loss = LSGANDiscriminatorLoss(reduction=config.loss_reduction)(
        network.activate(logits), network(fake)
    )
    total = loss + WEIGHT * penalty
    assert penalty > 0
    return list(torch.autograd.grad(total, list(network.parameters())))


@pytest.mark.parametrize("case", ["inception_8", "depthwise_inception"])
def test_d_step_is_that_of_double_backward(
    make_config: MakeConfig, digits: Digits, fabric: Fabric, case: str
) -> None:
    config = make_config(case=case, **CHOICES)
    expected = _by_hand(Game(config, digits, fabric, memory_efficient=False))
    without = _gradients(Game(make_config(case=case, **PLAIN), digits, fabric))
    for memory_efficient in (True, False):
        game = Game(config, digits, fabric, memory_efficient=memory_efficient)
        found = _gradients(game)
        largest = max(float(other.abs().max()) for other in expected)
        for gradient, other in zip(found, expected, strict=True):
            torch.testing.assert_close(gradient, other, rtol=0, atol=1e-5 * largest)
    assert any(not torch.allclose(a, b, rtol=1e-2) for a, b in zip(without, expected, strict=True))


def _gradients(game: Game) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []

    def keep(optimizer: object, *_: object) -> None:
        found.extend(
            torch.zeros_like(p) if p.grad is None else p.grad.clone()
            for p in game.discriminator.parameters()
        )

    game.discriminator_optimizer.register_step_pre_hook(keep)
    game.discriminator_step(0)
    return found


def test_running_statistics_move_as_without_a_penalty(make_game: MakeGame) -> None:
    games = [make_game(**CHOICES), make_game(**PLAIN)]
    for game in games:
        game.discriminator_step(0)
    first, second = (dict(game.discriminator.named_buffers()) for game in games)
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=1e-5, atol=1e-6)


def test_memory_is_predicted_with_the_penalty(make_game: MakeGame) -> None:
    with_it = predict_discriminator_step(make_game(**CHOICES))
    without = predict_discriminator_step(make_game(**PLAIN))
    assert with_it.tensor_peak_plain > without.tensor_peak_plain
    assert with_it.tensor_peak < with_it.tensor_peak_plain


def test_command_trains_with_r1_and_refuses_it_elsewhere(tmp_path) -> None:
    options = ["study", "--case", "inception_8", "--iterations", "1", "--batch-size", "2"]
    options += ["--out", str(tmp_path), "--penalty", "r1"]
    refused = CliRunner().invoke(app, options)
    assert refused.exit_code == 2
    assert "--penalty" in refused.output
    ended = CliRunner().invoke(app, [*options, "--variant", "modern"])
    assert ended.exit_code == 0, ended.output
    record = RunFolder(tmp_path / "inception_8-modern-r1-seed0").read_record()
    assert (record.config.penalty, record.outcome) == ("r1", "finished")
