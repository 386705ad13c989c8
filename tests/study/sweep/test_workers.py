from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from safetensors import safe_open

from gaslayers.study.checkpoint import Progress
from gaslayers.study.stopping import TERMINATED
from gaslayers.study.sweep import ForeignRunError, WorkerError, finish_all, run_workers, workers
from gaslayers.study.sweep.tally import Tally
from tests.study.conftest import ignore
from tests.study.sweep.conftest import (
    holder_of,
    is_training,
    read_all,
    start_sweep,
    wait_for,
    wait_for_a_training_worker,
)

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="reads from /proc/locks who holds a lock"
)


@pytest.mark.slow
def test_killed_worker_is_replaced_and_its_run_is_the_same(plan, digits, undisturbed, tmp_path):
    planned = plan(tmp_path)
    killed = []

    def kill_the_first(finished, total):
        assert total == 2
        for one in planned:
            if not killed and is_training(one.run_folder) and holder_of(one.run_folder):
                killed.append(holder_of(one.run_folder))
                os.kill(killed[0], signal.SIGKILL)
                # As a killed writer leaves them.
                one.run_folder.path.joinpath(".record.json.x1y2.part").write_bytes(b"{")
                one.run_folder.path.joinpath(".curves.csv.x1y2.part").write_bytes(b"iter")
                one.run_folder.curves_path.write_bytes(b"iteration,disc")

    run_workers(planned, digits, workers=1, judged=False, on_progress=kill_the_first)
    assert killed
    assert killed[0] != os.getpid()
    assert not list(tmp_path.rglob("*.part"))
    assert read_all(planned) == undisturbed


@pytest.mark.slow
def test_workers_of_a_killed_sweep_save_and_end_and_another_sweep_goes_on(
    grid_path, plan, digits, fabric, undisturbed, tmp_path
):
    planned = plan(tmp_path)
    driver = start_sweep("--grid", grid_path, "--out", tmp_path, "--workers", 1)
    try:
        folder, worker = wait_for_a_training_worker(planned)
    finally:
        driver.kill()
    driver.communicate()
    wait_for(lambda: holder_of(folder) is None)
    wait_for(lambda: not Path(f"/proc/{worker}").exists())
    assert not folder.record_path.exists()
    with safe_open(folder.checkpoint_path, framework="pt") as file:
        done = Progress.model_validate_json(file.metadata()["progress"]).next_iteration
    # It saved when its sweep was gone, long before the first checkpoint was due.
    assert 0 < done < planned[0].config.iterations
    finish_all(planned, digits, fabric, on_run=lambda _: ignore)
    assert read_all(planned) == undisturbed


@pytest.mark.slow
def test_several_sweeps_share_the_runs_of_one_folder(
    grid_path, plan, digits, undisturbed, tmp_path
):
    planned = plan(tmp_path)
    other = start_sweep("--grid", grid_path, "--out", tmp_path, "--workers", 1)
    run_workers(planned, digits, workers=1, judged=False, on_progress=ignore)
    output, errors = other.communicate()
    assert (other.returncode, errors) == (0, "")
    assert output.splitlines()[-1].startswith("2/2 runs")
    assert read_all(planned) == undisturbed


@pytest.mark.slow
def test_sweep_ended_by_sigterm_saves_and_says_so(grid_path, plan, tmp_path):
    planned = plan(tmp_path)
    driver = start_sweep("--grid", grid_path, "--out", tmp_path, "--workers", 1)
    folder, _ = wait_for_a_training_worker(planned)
    driver.terminate()
    output, errors = driver.communicate()
    assert (driver.returncode, errors) == (TERMINATED, "")
    assert output.endswith("Stopped. The same command goes on from the last checkpoints.\n")
    assert holder_of(folder) is None
    assert folder.checkpoint_path.exists()


@pytest.mark.slow
def test_worker_says_which_checkpoint_is_damaged_and_the_sweep_ends(
    plan, digits, undisturbed, fabric, capfd, tmp_path
):
    planned = plan(tmp_path)
    damaged = planned[0].run_folder
    damaged.path.mkdir(parents=True)
    damaged.checkpoint_path.write_bytes(b"\x00" * 100)
    with pytest.raises(WorkerError, match="a worker ended with status 1, as it says above"):
        run_workers(planned, digits, workers=1, judged=False, on_progress=ignore)
    message = capfd.readouterr().err
    assert f"{damaged.checkpoint_path} is not a readable checkpoint" in message
    assert "Delete it to start this run afresh." in message
    damaged.checkpoint_path.unlink()
    finish_all(planned, digits, fabric, on_run=lambda _: ignore)
    assert read_all(planned) == undisturbed


def test_sweep_refuses_a_damaged_record_before_a_worker_starts(plan, digits, tmp_path):
    planned = plan(tmp_path)
    folder = planned[1].run_folder
    folder.path.mkdir(parents=True)
    folder.record_path.write_text('{"preset"')
    with pytest.raises(ForeignRunError, match=r"is not a readable record: (.|\n)* Delete it"):
        run_workers(planned, digits, workers=1, judged=False, on_progress=ignore)
    assert not planned[0].run_folder.path.exists()


class Dying:
    """Stands in for a process: it is dead at once, with the next of some statuses."""

    statuses: list[int]

    def __init__(self, **_):
        self.exitcode = Dying.statuses.pop(0)

    def is_alive(self):
        return False

    start = terminate = join = lambda self: None


@pytest.fixture
def dying(monkeypatch):
    """Let workers end with these statuses, and return how many are left to start."""

    def dying(*statuses):
        Dying.statuses = list(statuses)
        context = type("Context", (), {"Process": Dying})
        monkeypatch.setattr(workers.multiprocessing, "get_context", lambda _: context)
        monkeypatch.setattr(workers, "_POLL_SECONDS", 0.0)
        return Dying.statuses

    return dying


@pytest.mark.parametrize("status", [-9, -15, TERMINATED])
def test_sweep_gives_up_on_workers_that_die_one_after_the_other(
    plan, digits, dying, tmp_path, status
):
    left = dying(*[status] * 9)
    with pytest.raises(WorkerError, match="4 workers were killed, one after the other"):
        run_workers(plan(tmp_path), digits, workers=1, judged=False, on_progress=ignore)
    assert len(left) == 4


def test_deaths_are_counted_anew_after_a_finished_run(plan, digits, dying, monkeypatch, tmp_path):
    counts = iter([0, 0, 0, 1, 1, 1, 2, 2, 2, 2])
    monkeypatch.setattr(
        Tally, "count", lambda self: setattr(self, "finished", next(counts)) or self.finished
    )
    left = dying(*[-9] * 6, 0)
    run_workers(plan(tmp_path), digits, workers=1, judged=False, on_progress=ignore)
    assert left == []


def test_workers_share_threads_and_cards(plan, digits, monkeypatch, tmp_path):
    jobs = []

    class Process(Dying):
        def __init__(self, *, target, args):
            jobs.append(args)
            self.exitcode = 0

    context = type("Context", (), {"Process": Process})
    monkeypatch.setattr(workers.multiprocessing, "get_context", lambda _: context)
    monkeypatch.setattr(workers.torch, "get_num_threads", lambda: 5)
    planned = plan(tmp_path)
    run_workers(planned, digits, workers=2, accelerator="cuda", on_progress=ignore)
    assert [job[2:] for job in jobs] == [(2, "cuda", 0, True), (2, "cuda", 1, True)]

    used = []
    monkeypatch.setattr(workers.torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(workers.torch, "set_num_threads", ignore)
    monkeypatch.setattr(workers, "Fabric", lambda **choices: used.append(choices))
    monkeypatch.setattr(workers, "finish_all", lambda *_, **__: None)
    for place in range(3):
        workers._work(planned, digits, 1, "cuda", place, False)
    assert [one["devices"] for one in used] == [[0], [1], [0]]


def test_tally_counts_runs_of_as_many_iterations_as_are_asked_for(
    make_config, digits, fabric, tmp_path
):
    from gaslayers.study.sweep import Planned

    short, long = (Planned(make_config(iterations=n), tmp_path, "tiny") for n in (2, 3))
    other = Planned(make_config(iterations=2, seed=1), tmp_path, "tiny")
    tally = Tally([long, other])
    finish_all([short], digits, fabric, on_run=lambda _: ignore)
    assert Tally([short]).finished == 1
    assert tally.count() == 0
    finish_all([long], digits, fabric, on_run=lambda _: ignore)
    assert tally.count() == 1
