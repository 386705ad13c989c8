from __future__ import annotations

import os
import re
import sys

import pytest
import torch

from gaslayers.cli import sweep as module
from gaslayers.cli.study import Device
from gaslayers.study.stopping import Terminated
from gaslayers.study.sweep import ClusterError, ForeignRunError, WorkerError

GRID = """
[families.some]
cases = ["original", "inception_8"]
seeds = 2
options = {iterations = 3}
[families.other]
cases = ["original"]
seeds = [5]
factors.base_filters = [8, 16]
"""


@pytest.fixture
def grid(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text(GRID)
    return str(path)


@pytest.fixture
def swept(monkeypatch):
    """What the command hands to workers or to a cluster, which do not run."""
    calls = []

    def record(kind):
        def run(planned, digits, **choices):
            choices.pop("on_progress")(0, len(planned))
            calls.append((kind, [one.config.name for one in planned], choices))

        return run

    monkeypatch.setattr(module, "run_workers", record("workers"))
    monkeypatch.setattr(module, "run_on_cluster", record("cluster"))
    return calls


def test_sweep_makes_every_run_with_a_worker_per_processor(invoke, grid, swept):
    answer = invoke("sweep", "--grid", grid, "--device", "cpu")
    assert (answer.exit_code, answer.stdout) == (0, "0/6 runs  left: unknown\n")
    ((kind, names, choices),) = swept
    assert kind == "workers"
    assert len(names) == 6
    assert choices == {"workers": os.cpu_count(), "accelerator": "cpu", "judged": True}


def test_sweep_hands_every_option_on(invoke, grid, swept):
    options = ("--family", "some", "--seed", "1", "--workers", "3", "--no-judge", "--threads", "1")
    assert invoke("sweep", "--grid", grid, "--device", "cpu", *options).exit_code == 0
    ((_, names, choices),) = swept
    assert names == ["original-modern-seed1", "inception_8-modern-seed1"]
    assert choices == {"workers": 3, "accelerator": "cpu", "judged": False}
    assert torch.get_num_threads() == 1


def test_sweep_hands_its_runs_to_a_cluster(invoke, grid, swept):
    options = ("--cluster", "local", "--workers", "2", "--device", "cuda")
    assert invoke("sweep", "--grid", grid, *options).exit_code == 0
    ((kind, names, choices),) = swept
    assert (kind, len(names)) == ("cluster", 6)
    assert choices == {"address": "local", "workers": 2, "accelerator": "cuda", "judged": True}


def test_plan_lists_the_runs_and_makes_none(invoke, grid, swept):
    answer = invoke("sweep", "--grid", grid, "--out", "here", "--family", "other", "--plan")
    assert answer.stdout.splitlines() == [
        "here/other/base_filters_8/original-modern-seed5",
        "here/other/base_filters_16/original-modern-seed5",
    ]
    assert not swept


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (("--workers", "0"), "--workers: Input should be greater than or equal to 1, got 0"),
        (("--threads", "0"), "--threads: Input should be greater than or equal to 1"),
        (("--cluster", "auto", "--workers", "2"), "--workers: goes with --cluster local"),
        (("--cluster", "local", "--device", "mps"), "--device: a cluster runs on cpu or cuda"),
        (("--device", "tpu"), "'tpu'"),
    ],
)
def test_sweep_names_the_option_that_cannot_be(invoke, grid, swept, options, fault):
    answer = invoke("sweep", "--grid", grid, *options)
    assert answer.exit_code == 2
    assert fault in answer.stderr
    assert not swept


def assert_one_line(answer, match):
    assert (answer.exit_code, answer.stdout) == (1, "")
    assert answer.stderr.count("\n") == 1
    assert re.match(f"gaslayers sweep: {match}", answer.stderr)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (("--grid", "none.toml"), r"\[Errno 2\] No such file or directory: .*none.toml"),
        (("--family", "third"), "Grid.plan: `families` must be among some, other, got 'third'"),
        (("--seed", "9"), r"Grid.plan: `seeds` must leave a run, got \[9\]"),
        (("--data", "nowhere"), "load_digits: .*nowhere"),
    ],
)
def test_sweep_says_in_one_line_what_it_lacks(invoke, grid, swept, options, match):
    assert_one_line(invoke("sweep", "--grid", grid, *options), match)
    assert not swept


@pytest.mark.parametrize("error", [ForeignRunError, WorkerError, ClusterError, OSError])
def test_sweep_says_in_one_line_what_went_wrong(invoke, grid, monkeypatch, error):
    def fail(*_, **__):
        raise error("in the way\n  twice")

    monkeypatch.setattr(module, "run_workers", fail)
    assert_one_line(invoke("sweep", "--grid", grid, "--device", "cpu"), "in the way twice$")


@pytest.mark.parametrize(("stop", "status"), [(KeyboardInterrupt, 130), (Terminated, 143)])
def test_stopped_sweep_says_that_it_goes_on(invoke, grid, monkeypatch, stop, status):
    def end(*_, **__):
        raise stop

    monkeypatch.setattr(module, "run_workers", end)
    answer = invoke("sweep", "--grid", grid, "--device", "cpu")
    assert answer.exit_code == status
    assert answer.stdout == "Stopped. The same command goes on from the last checkpoints.\n"


def test_sweep_on_a_cluster_says_how_to_install_ray(invoke, grid, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    answer = invoke("sweep", "--grid", grid, "--cluster", "local")
    assert_one_line(answer, r".*Install it by: pip install 'gaslayers\[study,cluster\]'$")


def test_progress_says_how_much_time_is_left(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    lines = module._Lines(module.Console())
    # Two of ten runs were there; each of the next takes three minutes.
    for seconds, done in ((0, 2), (30, 2), (70, 2), (180, 3), (181, 3), (360, 4)):
        now[0] = float(seconds)
        lines(done, 10)
    assert capsys.readouterr().out.splitlines() == [
        "2/10 runs  left: unknown",
        "2/10 runs  left: unknown",
        "3/10 runs  left: 21 min",
        "4/10 runs  left: 18 min",
    ]


@pytest.mark.parametrize(
    ("cards", "processors", "fitting", "expected"),
    [(1, 8, 3, 3), (2, 8, 3, 6), (2, 4, 3, 4), (1, 1, 3, 1), (4, 2, 1, 4)],
)
def test_cards_take_as_many_runs_as_fit_and_processors_drive(
    monkeypatch, cards, processors, fitting, expected
):
    asked = []
    monkeypatch.setattr(module.os, "cpu_count", lambda: processors)
    monkeypatch.setattr(module.torch.cuda, "device_count", lambda: cards)
    # Another program has half of the last card.
    free = [80 * 2**30] * (cards - 1) + [40 * 2**30]
    monkeypatch.setattr(module.torch.cuda, "mem_get_info", lambda card: (free[card], 80 * 2**30))
    monkeypatch.setattr(
        module, "runs_per_card", lambda configs, capacity: asked.append(capacity) or fitting
    )
    assert module._count_workers([], Device.cuda.value) == expected
    assert asked == [40 * 2**30]
    assert module._count_workers([], "cpu") == processors
    assert module._count_workers([], "mps") == 1
