from __future__ import annotations

import functools
import json
import re
import subprocess
import sys

import pytest
from filelock import FileLock

from gaslayers.study import judging
from gaslayers.study import run as run_module
from gaslayers.study.checkpoint import CheckpointError
from gaslayers.study.records import RunFolder
from gaslayers.study.sweep import ForeignRunError, Planned, finish_all, sweep
from tests.study.conftest import ignore


@pytest.fixture
def configs(make_config):
    return [make_config(seed=seed, iterations=3) for seed in range(3)]


@pytest.fixture
def play_all(digits, fabric):
    """Sweep, and return the records and the names of the runs that started."""

    def play_all(configs, out, on_start=ignore):
        started = []

        def on_run(config):
            started.append(config.name)
            on_start(config)
            return ignore

        records = sweep(configs, out, digits, fabric, preset="tiny", on_run=on_run)
        return records, started

    return play_all


def look(folder):
    """Content and time of every file."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_sweep_finishes_all_runs_in_order(configs, play_all, results, play, tmp_path):
    records, started = play_all(configs, tmp_path / "sweep")
    assert started == [config.name for config in configs]
    assert [record.config for record in records] == configs
    for config in configs:
        play(config, tmp_path / "alone" / config.name)
        alone, swept = (results(tmp_path / where / config.name) for where in ("alone", "sweep"))
        assert swept == alone


def test_sweep_keeps_finished_runs(configs, play_all, tmp_path):
    play_all(configs[:2], tmp_path)
    before = look(tmp_path)
    assert before
    records, started = play_all(configs, tmp_path)
    assert started == [configs[2].name]
    assert [record.config for record in records] == configs
    after = look(tmp_path)
    assert {path: after[path] for path in before} == before


def test_sweep_goes_on_where_it_was_stopped(configs, play_all, results, monkeypatch, tmp_path):
    monkeypatch.setattr(run_module, "CHECKPOINT_SECONDS", 0.0)

    def stop(config):
        if config.seed == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play_all(configs, tmp_path / "stopped", stop)
    _, started = play_all(configs, tmp_path / "stopped")
    assert started == [config.name for config in configs[1:]]
    play_all(configs, tmp_path / "whole")
    for config in configs:
        stopped, whole = (results(tmp_path / path / config.name) for path in ("stopped", "whole"))
        assert stopped == whole


def test_sweep_goes_on_after_a_run_that_diverges(make_config, play_all, tmp_path):
    configs = [
        make_config(iterations=3),
        make_config(iterations=3, seed=1, variant="as_described", learning_rate=1e30),
        make_config(iterations=3, seed=2),
    ]
    records, _ = play_all(configs, tmp_path)
    assert [record.outcome for record in records] == ["finished", "non_finite", "finished"]
    assert re.fullmatch(r"after \d iterations the loss is (nan|inf)", records[1].message)
    _, started = play_all(configs, tmp_path)
    assert started == []


@pytest.mark.parametrize(
    "other", [{"iterations": 2}, {"learning_rate": 2e-3}, {"iterations": 9, "learning_rate": 2e-3}]
)
def test_sweep_refuses_finished_run_of_another_configuration(
    make_config, play_all, tmp_path, other
):
    config = make_config(iterations=3)
    play_all([config], tmp_path)
    before = look(tmp_path)
    record = re.escape(str(RunFolder(tmp_path / config.name).record_path))
    match = f"^{record} is the record of another configuration. Choose another folder, or delete"
    with pytest.raises(ForeignRunError, match=match):
        play_all([make_config(**{"iterations": 3, **other})], tmp_path)
    assert look(tmp_path) == before


LONGER = {"optimizer": "adam", "shuffle": True}


def test_sweep_goes_on_from_a_finished_run_to_more_iterations(
    make_config, play_all, results, tmp_path
):
    # 5 and 8 are read as the last iterations of a run that ends there, and not in a longer one.
    for iterations in (6, 9, 11):
        config = make_config(iterations=iterations, log_every=4, sample_every=4, **LONGER)
        _, started = play_all([config], tmp_path / "grown")
        assert started == [config.name]
    play_all([config], tmp_path / "whole")
    grown, whole = (results(tmp_path / path / config.name) for path in ("grown", "whole"))
    assert grown == whole
    assert list(grown["samples"]) == [0, 4, 8, 10]


@pytest.mark.parametrize("step", ["save_checkpoint", "_train"])
def test_sweep_makes_a_run_longer_that_was_killed_while_it_began(
    make_config, play_all, results, monkeypatch, tmp_path, step
):
    class KilledError(Exception):
        pass

    def kill_after(*args):
        real(*args)
        raise KilledError

    play_all([make_config(iterations=3)], tmp_path / "grown")
    longer = make_config(iterations=6)
    real = getattr(run_module, step)
    with monkeypatch.context() as patch:
        # Once the checkpoint is of the longer run: before the record is gone, and after training.
        patch.setattr(run_module, step, kill_after)
        with pytest.raises(KilledError):
            play_all([longer], tmp_path / "grown")
    play_all([longer], tmp_path / "grown")
    play_all([longer], tmp_path / "whole")
    grown, whole = (results(tmp_path / path / longer.name) for path in ("grown", "whole"))
    assert grown == whole


def test_sweep_needs_the_checkpoint_to_go_on_from_a_finished_run(make_config, play_all, tmp_path):
    config = make_config(iterations=3)
    play_all([config], tmp_path)
    RunFolder(tmp_path / config.name).checkpoint_path.unlink()
    before = look(tmp_path)
    match = r"checkpoint\.safetensors is missing, from which the 3 iterations of this run would go"
    with pytest.raises(ForeignRunError, match=match):
        play_all([make_config(iterations=4)], tmp_path)
    assert look(tmp_path) == before


def test_sweep_keeps_a_finished_run_whose_checkpoint_is_of_no_use(make_config, play_all, tmp_path):
    config = make_config(iterations=3)
    play_all([config], tmp_path)
    checkpoint = RunFolder(tmp_path / config.name).checkpoint_path
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    before = look(tmp_path)
    with pytest.raises(CheckpointError, match="is not a readable checkpoint"):
        play_all([make_config(iterations=4)], tmp_path)
    assert look(tmp_path) == before


def test_sweep_refuses_a_batch_larger_than_the_data_before_it_begins(
    make_config, digits, play_all, tmp_path
):
    configs = [make_config(iterations=1), make_config(iterations=1, batch_size=len(digits) + 1)]
    with pytest.raises(ValueError, match=r"`batch_size` must be at most 10000, .* got 10001"):
        play_all(configs, tmp_path)
    assert not list(tmp_path.iterdir())


def test_sweep_removes_what_killed_writers_left(make_config, digits, fabric, tmp_path):
    config = make_config(iterations=3)
    folder = RunFolder(tmp_path / config.name)
    leftovers = [
        folder.path / ".checkpoint.safetensors.x1y2.part",
        folder.samples_path / ".000002.png.x1y2.part",
    ]
    seen = []
    for _ in ("unfinished", "finished"):
        folder.samples_path.mkdir(parents=True, exist_ok=True)
        for path in leftovers:
            path.write_bytes(b"half")
        # A finished run is only looked at; one that runs is cleaned before its first iteration.
        sweep(
            [config],
            tmp_path,
            digits,
            fabric,
            preset="tiny",
            on_run=lambda _: lambda *_: seen.append(any(path.exists() for path in leftovers)),
        )
        assert not any(path.exists() for path in leftovers)
    assert seen == [False] * 3


def test_sweep_leaves_what_another_process_is_writing(configs, play_all, play, tmp_path):
    held = RunFolder(tmp_path / configs[0].name)
    held.path.mkdir()
    written = held.path / ".curves.csv.x1y2.part"
    written.write_bytes(b"half")
    lock = FileLock(held.lock_path)
    lock.acquire()
    seen = []

    def look_and_release(config):
        seen.append((config.name, written.exists()))
        lock.release()

    play_all(configs[:2], tmp_path, look_and_release)
    assert seen == [(configs[1].name, True), (configs[0].name, True)]
    assert not written.exists()


def test_sweep_refuses_damaged_record(make_config, play_all, tmp_path):
    config = make_config(iterations=3)
    play_all([config], tmp_path)
    path = RunFolder(tmp_path / config.name).record_path
    path.write_text("{}")
    match = rf"(?s)^{re.escape(str(path))} is not a readable record: .* Delete it"
    with pytest.raises(ForeignRunError, match=match):
        play_all([config], tmp_path)
    path.unlink()
    _, started = play_all([config], tmp_path)
    assert started == [config.name]


def test_sweep_goes_on_where_half_a_record_was_deleted(make_config, play_all, results, tmp_path):
    config = make_config(iterations=3)
    play_all([config], tmp_path / "whole")
    play_all([config], tmp_path / "half")
    folder = RunFolder(tmp_path / "half" / config.name)
    content = folder.record_path.read_bytes()
    folder.record_path.write_bytes(content[: len(content) // 2])
    folder.curves_path.write_bytes(folder.curves_path.read_bytes()[:-20])
    with pytest.raises(
        ForeignRunError, match=r"is not a readable record: (.|\n)* Delete it: the run"
    ):
        play_all([config], tmp_path / "half")
    folder.record_path.unlink()
    play_all([config], tmp_path / "half")
    half, whole = (results(tmp_path / path / config.name) for path in ("half", "whole"))
    assert half == whole


def change_record(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"config_hash": "0" * 64}, "was changed after it was written: its config_hash is not"),
        ({"schema_version": 9}, r"schema_version of another release .*be 1 or 2, got 9\. Read it"),
        ({"surplus": 1}, "is not a readable record: (.|\n)*surplus"),
    ],
)
def test_sweep_refuses_a_forged_record_and_one_of_another_schema(
    make_config, play_all, tmp_path, changes, match
):
    config = make_config(iterations=3)
    play_all([config], tmp_path)
    change_record(RunFolder(tmp_path / config.name).record_path, **changes)
    before = look(tmp_path)
    with pytest.raises(ForeignRunError, match=match):
        play_all([config], tmp_path)
    assert look(tmp_path) == before


def test_sweep_refuses_a_record_whose_config_was_changed_and_not_its_hash(
    make_config, play_all, tmp_path
):
    config = make_config(iterations=3)
    play_all([config], tmp_path)
    path = RunFolder(tmp_path / config.name).record_path
    longer = make_config(iterations=4)
    change_record(path, config=longer.model_dump())
    for asked in (config, longer):
        with pytest.raises(ForeignRunError, match="was changed after it was written"):
            play_all([asked], tmp_path)


def test_samples_are_judged_at_the_end_where_that_is_asked_for(
    make_config, digits, fabric, monkeypatch, tmp_path
):
    # Fewer samples than in earnest, for their metrics take longer than such a run.
    few = functools.partial(judging.evaluate, samples=200)
    monkeypatch.setattr(judging, "evaluate", few)
    planned = [Planned(make_config(iterations=2), tmp_path, "tiny", "f" * 64)]
    found = {}
    for judged in (True, False):
        (record,) = finish_all(planned, digits, fabric, on_run=lambda _: ignore, judged=judged)
        assert record.hypotheses_sha256 == "f" * 64
        assert record.evaluation.samples == 200
        found[judged] = record
    assert found[True] == found[False]  # a finished run is not judged again


def test_sweep_refuses_checkpoint_of_another_configuration(
    make_config, play_all, monkeypatch, tmp_path
):
    play_all([make_config(iterations=3)], tmp_path)
    RunFolder(tmp_path / make_config().name).record_path.unlink()
    with pytest.raises(CheckpointError, match="belongs to another configuration"):
        play_all([make_config(iterations=4)], tmp_path)


def test_sweep_puts_off_a_run_that_another_process_holds(configs, play_all, tmp_path):
    held = RunFolder(tmp_path / configs[0].name)
    held.path.mkdir()
    lock = FileLock(held.lock_path)
    lock.acquire()
    # The other process gives up, unfinished, when the last of our own runs has started.
    records, started = play_all(
        configs, tmp_path, lambda config: lock.release() if config == configs[2] else None
    )
    assert started == [configs[1].name, configs[2].name, configs[0].name]
    assert [record.config for record in records] == configs


def test_sweep_takes_what_another_process_finished_meanwhile(configs, play_all, play, tmp_path):
    held = RunFolder(tmp_path / configs[0].name)
    held.path.mkdir()
    lock = FileLock(held.lock_path)
    lock.acquire()

    def finish_elsewhere(config):
        if config == configs[1]:
            play(configs[0], held.path)
            lock.release()

    records, started = play_all(configs[:2], tmp_path, finish_elsewhere)
    assert started == [configs[1].name]
    assert [record.config for record in records] == configs[:2]


SWEEP = """
import sys
from pathlib import Path
import torch
from lightning_fabric import Fabric
from gaslayers.study.config import RunConfig
from gaslayers.study.data import load_digits
from gaslayers.study.sweep import sweep

def on_run(config):
    print(config.name, flush=True)
    return lambda *_: None

torch.set_num_threads(1)
out, *configs = sys.argv[1:]
digits, fabric = load_digits(), Fabric(accelerator="cpu", devices=1)
print("ready", flush=True)
sys.stdin.readline()
configs = [RunConfig.model_validate_json(config) for config in configs]
sweep(configs, Path(out), digits, fabric, preset="tiny", on_run=on_run)
"""


@pytest.mark.slow
def test_two_processes_share_the_runs_of_one_folder(make_config, play_all, results, tmp_path):
    configs = [make_config(seed=seed, iterations=10) for seed in range(3)]
    shared, alone = tmp_path / "shared", tmp_path / "alone"
    arguments = [str(shared), *(config.model_dump_json() for config in configs)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [
        subprocess.Popen([sys.executable, "-c", SWEEP, *arguments], **pipes) for _ in range(2)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    started = [process.communicate()[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert all(started)  # both had a share
    assert sorted(started[0] + started[1]) == [config.name for config in configs]
    play_all(configs, alone)
    for config in configs:
        assert results(shared / config.name) == results(alone / config.name)
