"""A record that belongs to the code is reproduced; one that does not is refused, and says why."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from gaslayers.models import VARIANTS
from gaslayers.study import networks, training
from gaslayers.study import replays as module
from gaslayers.study.replays import StaleRecordError, replay
from gaslayers.study.report.runs import Run, read_run


@pytest.fixture(scope="module")
def recorded(make_config, play, tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("recorded") / "run"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the tests: another number rounds differently
    play(make_config(), folder)
    torch.set_num_threads(threads)
    return read_run(folder)


def changed_record(run: Run, **changes) -> Run:
    return dataclasses.replace(run, record=run.record.model_copy(update=changes))


def changed_losses(run: Run, **changes) -> Run:
    curves = [run.curves[0], run.curves[1].model_copy(update=changes), *run.curves[2:]]
    return dataclasses.replace(run, curves=curves)


def test_record_of_this_code_is_reproduced_bit_for_bit(recorded, digits, fabric):
    # By the path that the record was made by.
    result = replay(recorded, digits, fabric, iterations=3, memory_efficient=True)
    assert [point.iteration for point in result.live] == [0, 2]
    assert result.live == result.recorded
    assert result.differences() == [0.0] * 4
    assert result.is_same_release
    assert f"code hash {recorded.record.code_hash[:12]} (same)" in str(result)


@pytest.mark.parametrize("memory_efficient", [False, True])
def test_replay_runs_the_paths_that_are_asked_for(
    recorded, digits, fabric, monkeypatch, memory_efficient
):
    asked = []

    class Watched(module.Game):
        def __init__(self, *args, **options) -> None:
            asked.append(options["memory_efficient"])
            super().__init__(*args, **options)

    monkeypatch.setattr(module, "Game", Watched)
    replay(recorded, digits, fabric, iterations=1, memory_efficient=memory_efficient)
    assert asked == [memory_efficient] * 2  # once from moved weights


def test_replay_ends_with_the_record(recorded, digits, fabric):
    result = replay(recorded, digits, fabric, iterations=100)
    assert [point.iteration for point in result.live] == [0, 2, 4, 5]


@pytest.mark.parametrize("field", ["discriminator_loss", "generator_loss"])
@pytest.mark.parametrize("factor", [1.01, float("nan")])
def test_other_losses_are_refused(recorded, digits, fabric, field, factor):
    value = factor * getattr(recorded.curves[1], field)
    with pytest.raises(StaleRecordError, match="The losses are not those of the record"):
        replay(changed_losses(recorded, **{field: value}), digits, fabric, iterations=3)


def test_other_losses_are_shown_where_hashes_alone_are_compared(
    recorded, digits, fabric, monkeypatch
):
    other = changed_losses(recorded, generator_loss=99.0)
    result = replay(other, digits, fabric, iterations=3, compare_losses=False)
    assert max(result.differences()) > 0.5
    assert "99.000000" in str(result)
    monkeypatch.setattr(module, "code_hash", lambda config: "f" * 64)
    with pytest.raises(StaleRecordError, match="another code"):
        replay(other, digits, fabric, iterations=1, compare_losses=False)


def test_losses_after_the_replay_are_not_looked_at(recorded, digits, fabric):
    assert replay(changed_losses(recorded, generator_loss=99.0), digits, fabric, iterations=2)


def test_other_configuration_is_refused(recorded, digits, fabric):
    config = recorded.config.model_copy(update={"learning_rate": 1e-4})
    with pytest.raises(StaleRecordError, match="record is of another configuration: hash"):
        replay(changed_record(recorded, config=config), digits, fabric)


def test_other_digits_are_refused(recorded, digits, fabric):
    other = dataclasses.replace(digits, sha256="0" * 64)
    with pytest.raises(StaleRecordError, match=r"another digits: hash .* got 000000000000"):
        replay(recorded, other, fabric)


def test_other_code_is_refused_within_one_release_of_torch(recorded, digits, fabric, monkeypatch):
    monkeypatch.setattr(module, "code_hash", lambda config: "f" * 64)
    with pytest.raises(StaleRecordError, match=r"another code: hash .* got ffffffffffff"):
        replay(recorded, digits, fabric, iterations=1)
    machine = recorded.record.machine.model_copy(update={"torch": "1.0.0"})
    result = replay(changed_record(recorded, machine=machine), digits, fabric, iterations=1)
    assert "not compared: another release of PyTorch" in str(result)


def test_iterations_below_one_are_refused(recorded, digits, fabric):
    with pytest.raises(ValueError, match=r"replay: `iterations` must be >= 1, got 0"):
        replay(recorded, digits, fabric, iterations=0)


def test_every_number_is_compared_where_rounding_does_not_grow(recorded, digits, fabric):
    result = replay(recorded, digits, fabric, iterations=3)
    assert result.compared() == [{*module.LOSSES, *module.LOGITS}] * 2
    assert str(result).count("losses, logits") == 2


def test_nothing_is_compared_where_rounding_grows_at_once(make_config, digits, fabric):
    # Saturated within an iteration, and the sides are the rounding's choice.
    config = make_config(case="depthwise_inception", batch_size=32, iterations=3)
    game, other = (module.Game(config, digits, fabric, memory_efficient=False) for _ in range(2))
    module._move(other)
    moved = module._play(other, 3)
    live = module._play(game, 3)
    result = module.Replay("run", live, live, "0" * 64, is_same_release=True, moved=moved)
    assert result.compared()[-1] == set()
    assert str(result).endswith("nothing")


def change_points(run: Run, change) -> Run:
    return dataclasses.replace(run, curves=[change(point) for point in run.curves])


def test_a_number_that_rounding_has_reached_once_is_not_compared_later(recorded):
    at_first = change_points(
        recorded, lambda p: p.model_copy(update={"generator_loss": 2.1 - 0.1 * (p.iteration > 0)})
    )
    live = change_points(recorded, lambda p: p.model_copy(update={"generator_loss": 2.0}))
    result = module.Replay("run", live.curves, live.curves, "c", True, at_first.curves)
    # Nor is the other loss: that it stays is chance.
    assert result.compared() == [{*module.LOGITS}] * len(live.curves)


@pytest.mark.parametrize("move", [1e-7, -1e-7, 1e-6])
def test_record_of_another_processor_is_recognised(recorded, digits, fabric, monkeypatch, move):
    """Weights moved by a rounding and by eight, which stands for what other processors compute."""

    class Moved(module.Game):
        def __init__(self, *args, **options) -> None:
            super().__init__(*args, **options)
            source = torch.Generator().manual_seed(7)
            with torch.no_grad():
                for weight in (*self.generator.parameters(), *self.discriminator.parameters()):
                    weight.mul_(1 + move * torch.randn(weight.shape, generator=source))

    monkeypatch.setattr(module, "Game", Moved)
    result = replay(recorded, digits, fabric, iterations=6)
    assert result.live != result.recorded
    assert all(module.LOSSES[0] in names for names in result.compared())


def other_head(patch):
    build = networks.build_discriminator
    switches = dataclasses.replace(VARIANTS["as_coded"], head="linear")
    patch.setattr(
        networks,
        "build_discriminator",
        lambda case, **choices: build(case, **{**choices, "switches": switches}),
    )


def other_labels(patch):
    class Swapped(training.LSGANDiscriminatorLoss):
        def forward(self, real_scores, fake_scores):
            return super().forward(fake_scores, real_scores)

    patch.setattr(training, "LSGANDiscriminatorLoss", Swapped)


def other_ratio(patch):
    def iterate(self, iteration):
        for _ in range(self.config.generator_steps):
            self.discriminator_step(iteration)
        self.generator_step(iteration, 0)

    patch.setattr(training.Game, "iterate", iterate)


def other_rate(patch):
    make = training.make_optimizer
    patch.setattr(
        training,
        "make_optimizer",
        lambda parameters, config: make(
            parameters, config.model_copy(update={"learning_rate": 1.1 * config.learning_rate})
        ),
    )


@pytest.mark.parametrize("change", [other_head, other_labels, other_ratio, other_rate])
def test_other_computation_is_refused_by_its_numbers(recorded, digits, fabric, monkeypatch, change):
    # Were the hash the same, or of another release of PyTorch.
    monkeypatch.setattr(module, "code_hash", lambda config: recorded.record.code_hash)
    change(monkeypatch)
    with pytest.raises(StaleRecordError, match="The losses are not those of the record"):
        replay(recorded, digits, fabric, iterations=3)
