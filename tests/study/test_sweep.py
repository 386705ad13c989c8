from __future__ import annotations

import re
import subprocess
import sys

import pytest
from filelock import FileLock

from gaslayers.study import run as run_module
from gaslayers.study.checkpoint import CheckpointError
from gaslayers.study.records import RunFolder
from gaslayers.study.sweep import ForeignRunError, sweep
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


def test_sweep_refuses_finished_run_of_another_configuration(make_config, play_all, tmp_path):
    config = make_config(iterations=3)
    play_all([config], tmp_path)
    before = look(tmp_path)
    record = re.escape(str(RunFolder(tmp_path / config.name).record_path))
    match = f"^{record} is the record of another configuration. Choose another folder, or delete"
    with pytest.raises(ForeignRunError, match=match):
        play_all([make_config(iterations=4)], tmp_path)
    assert look(tmp_path) == before


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
    configs = [make_config(seed=seed, iterations=20) for seed in range(4)]
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
