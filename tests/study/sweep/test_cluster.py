"""Sweeps on a Ray cluster that is started for a test, in processes of their own."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from gaslayers.study.stopping import TERMINATED
from gaslayers.study.sweep import ClusterError, cluster, run_on_cluster
from tests.study.conftest import ignore
from tests.study.sweep.conftest import (
    holder_of,
    read_all,
    start_sweep,
    wait_for,
    wait_for_a_training_worker,
)


@pytest.fixture
def ray():
    return pytest.importorskip("ray", reason="Ray is not installed: the extra `cluster`")


@pytest.fixture
def start(ray, grid_path, tmp_path):
    """Start a sweep on a cluster of its own, which ends with it."""
    options = ("--grid", grid_path, "--out", tmp_path, "--cluster", "local")
    return lambda *more: start_sweep(*options, *more)


def end(process):
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    return output


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/locks")
def test_cluster_makes_runs_beside_each_other_and_a_killed_task_again(
    start, plan, undisturbed, tmp_path
):
    planned = plan(tmp_path)
    sweep = start("--workers", 2)
    folders = [one.run_folder for one in planned]

    def holders():
        found = [holder_of(folder) for folder in folders]
        return found if all(found) else None

    both = wait_for(holders)
    assert len({*both, sweep.pid}) == 3
    folder, task = wait_for_a_training_worker(planned)
    os.kill(task, signal.SIGKILL)
    folder.path.joinpath(".record.json.x1y2.part").write_bytes(b"{")
    wait_for(lambda: holder_of(folder) not in (None, task))
    output = end(sweep)
    assert output.splitlines()[-1].startswith("2/2 runs")
    assert not list(tmp_path.rglob("*.part"))
    assert read_all(planned) == undisturbed


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/locks")
def test_tasks_of_a_killed_driver_end_and_another_sweep_goes_on(start, plan, undisturbed, tmp_path):
    planned = plan(tmp_path)
    sweep = start("--workers", 1)
    try:
        folder, task = wait_for_a_training_worker(planned)
    finally:
        sweep.kill()
    sweep.communicate()
    wait_for(lambda: holder_of(folder) is None)
    wait_for(lambda: not Path(f"/proc/{task}").exists())
    assert not all(one.run_folder.record_path.exists() for one in planned)
    end(start("--workers", 1))
    assert read_all(planned) == undisturbed
    before = [one.run_folder.record_path.stat().st_mtime_ns for one in planned]
    end(start("--workers", 1))
    assert [one.run_folder.record_path.stat().st_mtime_ns for one in planned] == before


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/locks")
def test_sweep_on_a_cluster_ends_at_sigterm(start, plan, tmp_path):
    planned = plan(tmp_path)
    sweep = start("--workers", 1)
    folder, _ = wait_for_a_training_worker(planned)
    sweep.terminate()
    output, errors = sweep.communicate()
    assert sweep.returncode == TERMINATED, errors
    assert output.endswith("Stopped. The same command goes on from the last checkpoints.\n")
    wait_for(lambda: holder_of(folder) is None)


@pytest.mark.slow
def test_error_of_a_task_ends_the_sweep_with_its_message(start, plan, tmp_path):
    folder = plan(tmp_path)[0].run_folder
    folder.path.mkdir(parents=True)
    folder.checkpoint_path.write_bytes(b"half")
    sweep = start("--workers", 1)
    _, errors = sweep.communicate()
    assert sweep.returncode == 1
    assert f"{folder.checkpoint_path} is not a readable checkpoint" in errors
    assert "Delete it to start this run afresh." in errors


@pytest.mark.slow
def test_cluster_that_is_not_there_is_named(ray, grid_path, tmp_path):
    sweep = start_sweep("--grid", grid_path, "--out", tmp_path, "--cluster", "auto")
    _, errors = sweep.communicate()
    assert sweep.returncode == 1
    assert "gaslayers sweep: there is no Ray cluster at 'auto': " in errors


class FakeRay:
    """A cluster of some GPUs, which makes no runs."""

    class exceptions:  # noqa: N801  (Ray's name)
        RayError = RuntimeError

    def __init__(self, cards):
        self.cards = cards
        self.asked = []

    def is_initialized(self):
        return True

    def cluster_resources(self):
        return {"CPU": 8.0, **({"GPU": self.cards} if self.cards else {})}

    def put(self, what):
        return what

    def remote(self, **resources):
        def wrap(function):
            self.asked.append(resources)
            remote = staticmethod(lambda *_: None)
            return type("Task", (), {"remote": remote})

        return wrap

    def wait(self, waiting, **_):
        return waiting, []

    def get(self, ended):
        return ended

    def cancel(self, *_, **__):
        pass


@pytest.mark.parametrize(
    ("cards", "accelerator", "resources"),
    [
        (0, "auto", {"num_cpus": 1}),
        (0, "cpu", {"num_cpus": 1}),
        (2, "cpu", {"num_cpus": 1}),
        (2, "auto", {"num_cpus": 1, "num_gpus": 0.25}),
        (2, "cuda", {"num_cpus": 1, "num_gpus": 0.25}),
    ],
)
def test_task_asks_for_a_processor_and_for_the_part_of_a_gpu_that_it_takes(
    plan, digits, monkeypatch, tmp_path, cards, accelerator, resources
):
    ray = FakeRay(cards)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(cluster, "_smallest_card", lambda _: 80 * 2**30)
    monkeypatch.setattr(cluster, "runs_per_card", lambda configs, capacity: capacity // 2**30 // 20)
    planned = plan(tmp_path)
    # No run was made, which is as when the machines see another folder.
    with pytest.raises(ClusterError, match=r"record.json is not there, though its run ended"):
        run_on_cluster(planned, digits, address="auto", accelerator=accelerator, on_progress=ignore)
    assert ray.asked == [{"max_retries": 3, **resources}]


def test_cluster_without_gpu_is_refused_where_one_is_asked_for(plan, digits, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", FakeRay(0))
    with pytest.raises(ClusterError, match="the cluster has no GPU for the device 'cuda'"):
        run_on_cluster(
            plan(tmp_path), digits, address="auto", accelerator="cuda", on_progress=ignore
        )


def test_workers_go_with_a_cluster_that_is_started_here(plan, digits, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", FakeRay(0))
    with pytest.raises(ValueError, match="`workers` must be None with a cluster that is there"):
        run_on_cluster(plan(tmp_path), digits, address="auto", workers=2, on_progress=ignore)


def test_sweep_on_a_cluster_says_how_to_install_ray(plan, digits, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterError, match=r"pip install 'gaslayers\[study,cluster\]'"):
        run_on_cluster(plan(tmp_path), digits, address="local", on_progress=ignore)


@pytest.mark.parametrize(
    ("is_there", "versions", "match"),
    [
        (False, None, "has no folder .*All machines must see the folder of the sweep"),
        (True, {"gaslayers": "0", "torch": "0"}, "was started with .*Install the same on all"),
    ],
)
def test_task_refuses_a_machine_that_is_set_up_otherwise(
    plan, digits, tmp_path, is_there, versions, match
):
    (one, _) = plan(tmp_path / "out")
    if is_there:
        one.folder.mkdir(parents=True)
    job = cluster._Job("cpu", judged=False, versions=versions or cluster._versions())
    with pytest.raises(ClusterError, match=match):
        cluster._make(one, digits, job, 0.0)
    assert not one.run_folder.path.exists()


def test_task_makes_its_run_and_leaves_one_that_another_holds(make_config, digits, tmp_path):
    from filelock import FileLock

    from gaslayers.study.sweep import Planned

    one = Planned(make_config(iterations=2), tmp_path, "tiny")
    job = cluster._Job("cpu", judged=False, versions=cluster._versions())
    one.run_folder.path.mkdir()
    handler = signal.getsignal(signal.SIGTERM)
    with FileLock(one.run_folder.lock_path):
        cluster._make(one, digits, job, 0.0)
    assert not one.run_folder.record_path.exists()
    cluster._make(one, digits, job, 0.0)
    assert one.run_folder.read_record().iterations_done == 2
    assert signal.getsignal(signal.SIGTERM) is handler
