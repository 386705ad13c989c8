"""A record that belongs to the code is reproduced; one that does not is refused, and says why."""

from __future__ import annotations

import dataclasses

import pytest
import torch

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
    assert asked == [memory_efficient]


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
