"""The study against an independent port of the 2018 iteration, and the benchmark of the two."""

from __future__ import annotations

import json

import pytest
import torch
from torch.testing import assert_close
from typer.testing import CliRunner

from benchmarks import iteration as module
from benchmarks.port import Port

# Float32 rounding of sums in two orders, through three iterations.
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture
def config(make_config):
    return make_config(case="original", generator_base_channels=8, generator_steps=4, batch_size=8)


def test_game_and_straightforward_port_have_equal_losses_and_weights(config):
    game, port = module.make_sides(config)
    losses, expected = [], []
    for criterion in (game.discriminator_loss, game.generator_loss):
        criterion.register_forward_hook(lambda _, __, loss: losses.append(loss.item()))
    for iteration in range(3):
        game.iterate(iteration)
        expected += port.iterate(iteration)
    assert len(losses) == 15
    assert len({round(loss, 6) for loss in losses}) > 5
    assert_close(losses, expected, **TOLERANCE)
    networks = ((game.generator, port.generator), (game.discriminator, port.discriminator))
    for ours, theirs in networks:
        for weight, counterpart in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert_close(weight.detach(), counterpart.detach(), **TOLERANCE)


def test_port_is_straightforward(config):
    _, port = module.make_sides(config)
    port.iterate(0)
    for network in (port.generator, port.discriminator):
        assert all(weight.is_contiguous() for weight in network.parameters())
        # The last step was G's; D's gradients were computed all the same.
        assert all(weight.grad is not None for weight in network.parameters())


def test_benchmark_compares_losses(config):
    assert 0 <= module.compare_losses(config, iterations=1) < 1e-5


def test_benchmark_refuses_another_computation(config, monkeypatch):
    class OtherPort(Port):
        def __init__(self, game):
            super().__init__(game)
            self.discriminator_optimizer.rate *= 2

    monkeypatch.setattr(module, "Port", OtherPort)
    with pytest.raises(ArithmeticError, match=r"losses differ by .* of their size"):
        module.compare_losses(config, iterations=3)


def test_benchmark_writes_markdown_and_json(tmp_path):
    out = tmp_path / "results" / "iteration.json"
    sizes = ["--repeats", "5", "--threads", "1", "--base-channels", "4", "--batch-size", "2"]
    answer = CliRunner().invoke(module.app, [*sizes, "--out", str(out)], catch_exceptions=False)
    assert answer.exit_code == 0
    result = json.loads(out.read_text())
    assert result["config"]["case"] == "original"
    assert result["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert result["machine"]["processor"]
    times = [seconds["all"] for seconds in result["seconds"].values()]
    assert [len(taken) for taken in times] == [5, 5]
    ratios = sorted(theirs / ours for ours, theirs in zip(*times, strict=True))
    assert result["speedup"] == {"smallest": ratios[0], "median": ratios[2], "largest": ratios[4]}
    assert f"**{ratios[2]:.2f} times faster**" in answer.stdout
    assert "| straightforward port |" in answer.stdout


def test_benchmark_refuses_few_turns():
    answer = CliRunner().invoke(module.app, ["--repeats", "4"])
    assert answer.exit_code == 2
