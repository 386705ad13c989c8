from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from gaslayers.cli import study
from gaslayers.models import CASES
from gaslayers.study.checkpoint import CheckpointError, Progress
from gaslayers.study.config import TRAINING
from gaslayers.study.data import load_digits
from gaslayers.study.records import RunFolder
from gaslayers.study.sweep import ForeignRunError
from tests.study.conftest import read_results


@pytest.fixture
def swept(monkeypatch):
    """What the command hands to the sweep, which does not run."""
    calls = []

    def sweep(configs, out, digits, fabric, *, preset, on_run):
        calls.append({"configs": configs, "out": out, "digits": digits, "preset": preset})

    monkeypatch.setattr(study, "sweep", sweep)
    monkeypatch.setattr(study, "write_report", lambda folder, _out: [folder / "summary.md"])
    return calls


def stop_with(monkeypatch, error):
    def sweep(*_, **__):
        raise error

    monkeypatch.setattr(study, "sweep", sweep)


def test_study_without_options_runs_the_quick_preset_on_cpu(invoke, swept):
    answer = invoke("study", "--device", "cpu")
    assert answer.exit_code == 0
    (call,) = swept
    assert (call["preset"], call["out"]) == ("quick", Path("gaslayers-study/quick"))
    assert [config.case for config in call["configs"]] == list(CASES)
    assert {(c.variant, c.seed, c.iterations) for c in call["configs"]} == {("as_coded", 0, 50)}
    assert call["digits"].source == "embedded"
    assert {config.data_sha256 for config in call["configs"]} == {load_digits().sha256}
    assert answer.stdout == "wrote gaslayers-study/quick/summary.md\n"


def test_study_hands_every_option_on(invoke, swept):
    answer = invoke(
        "study",
        *("--preset", "narrow", "--case", "inception_8", "--case", "original"),
        *("--variant", "modern", "--seed", "3", "--seed", "4", "--iterations", "7"),
        *("--batch-size", "5", "--generator-steps", "2", "--optimizer", "rmsprop"),
        *("--learning-rate", "0.5", "--device", "cpu", "--threads", "1", "--out", "here"),
    )
    assert answer.exit_code == 0
    (call,) = swept
    assert (call["preset"], call["out"]) == ("narrow", Path("here"))
    runs = [(config.case, config.seed) for config in call["configs"]]
    assert runs == [("inception_8", 3), ("original", 3), ("inception_8", 4), ("original", 4)]
    chosen = {
        "variant": "modern",
        "iterations": 7,
        "batch_size": 5,
        "generator_steps": 2,
        "optimizer": "rmsprop",
        "learning_rate": 0.5,
        "generator_base_channels": 64,  # the preset's
        "image_range": TRAINING["modern"]["image_range"],
    }
    for config in call["configs"]:
        assert config.model_dump().items() >= chosen.items()
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(("has_cuda", "preset"), [(False, "quick"), (True, "faithful")])
def test_study_chooses_preset_by_device(invoke, swept, monkeypatch, has_cuda, preset):
    device = torch.device("cuda" if has_cuda else "cpu")
    members = {"device": device, "launch": lambda _: None, "is_global_zero": True}
    fabric = type("Fabric", (), members)()
    monkeypatch.setattr(study, "Fabric", lambda **_: fabric)
    assert invoke("study").exit_code == 0
    assert swept[0]["preset"] == preset


@pytest.mark.parametrize(
    ("option", "value", "choices"),
    [
        ("--case", "inception", CASES),
        ("--variant", "coded", ("as_coded", "as_described", "modern")),
        ("--preset", "slow", ("quick", "narrow", "faithful")),
        ("--optimizer", "sgd", ("rmsprop_tf", "rmsprop", "adam")),
        ("--device", "tpu", ("auto", "cpu", "cuda", "mps")),
    ],
)
def test_study_names_the_choices_where_there_is_no_such(invoke, swept, option, value, choices):
    answer = invoke("study", option, value)
    assert answer.exit_code == 2
    assert not swept
    message = " ".join(re.sub(r"[│\n]", " ", answer.stderr).split())
    assert f"'{option}'" in message
    assert f"'{value}'" in message
    assert all(f"'{choice}'" in message for choice in choices)


@pytest.mark.parametrize(
    ("option", "value", "fault"),
    [
        ("--iterations", "0", "greater than or equal to 1, got 0"),
        ("--batch-size", "1", "greater than or equal to 2, got 1"),
        ("--generator-steps", "0", "greater than or equal to 1, got 0"),
        ("--learning-rate", "0", "greater than 0, got 0.0"),
        ("--learning-rate", "nan", "greater than 0, got nan"),
        ("--learning-rate", "-1", "greater than 0, got -1.0"),
        ("--learning-rate", "inf", "finite, from 1e-30 to 1e+30, got inf"),
        ("--learning-rate", "1e31", "finite, from 1e-30 to 1e+30, got 1e+31"),
        ("--batch-size", "10001", "at most 10000, the number of digits, got 10001"),
        ("--seed", "-1", "greater than or equal to 0, got -1"),
        ("--threads", "0", "greater than or equal to 1"),
        ("--threads", str(2**20), "processors of this machine, got 1048576"),
    ],
)
def test_study_names_the_option_whose_value_cannot_be(invoke, swept, option, value, fault):
    answer = invoke("study", option, value)
    assert answer.exit_code == 2
    assert not swept
    assert option in answer.stderr
    assert fault in answer.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_study_says_that_there_is_no_such_device(invoke, swept):
    answer = invoke("study", "--device", "cuda")
    assert answer.exit_code == 2
    assert "--device: this machine has no cuda device" in answer.stderr


def assert_one_line(answer, match):
    assert answer.exit_code == 1
    assert answer.stdout == ""
    assert answer.stderr.count("\n") == 1
    assert re.match(match, answer.stderr)


def test_study_says_in_one_line_that_the_data_is_not_there(invoke, swept, tmp_path):
    answer = invoke("study", "--data", str(tmp_path / "nowhere"))
    assert_one_line(answer, r"gaslayers study: load_digits: `.*nowhere/MNIST/raw/train-images-idx3")
    assert "the embedded digits serve every preset" in answer.stderr
    assert not swept


def test_study_says_in_one_line_that_the_folder_cannot_be_written(invoke, tmp_path):
    (tmp_path / "file").touch()
    answer = invoke("study", "--out", str(tmp_path / "file"), "--case", "inception_8")
    assert_one_line(answer, "gaslayers study: .*Not a directory: .*file/inception_8-as_coded-seed0")


@pytest.mark.parametrize(
    "error", [ForeignRunError("in the way\n  twice"), CheckpointError("in the way\n  twice")]
)
def test_study_says_in_one_line_what_is_in_the_way(invoke, monkeypatch, error):
    stop_with(monkeypatch, error)
    assert_one_line(invoke("study"), "gaslayers study: in the way twice$")


def test_interrupted_study_says_that_it_goes_on(invoke, monkeypatch):
    stop_with(monkeypatch, KeyboardInterrupt())
    answer = invoke("study")
    assert answer.exit_code == 130
    assert answer.stdout == "Stopped. The same command goes on from the last checkpoint.\n"
    assert answer.stderr == ""


def test_fault_of_the_program_is_not_hidden(invoke, monkeypatch):
    stop_with(monkeypatch, ZeroDivisionError("a fault"))
    with pytest.raises(ZeroDivisionError, match="a fault"):
        invoke("study")


def test_report_lists_what_it_wrote(invoke, monkeypatch):
    asked = []

    def write_report(folder, out):
        asked.append((folder, out))
        return [folder / "a.png", folder / "summary.md"]

    monkeypatch.setattr(study, "write_report", write_report)
    answer = invoke("report", "some/folder")
    assert answer.exit_code == 0
    assert answer.stdout == "wrote some/folder/a.png\nwrote some/folder/summary.md\n"
    invoke("report", "some/folder", "--out", "other")
    assert asked == [(Path("some/folder"), None), (Path("some/folder"), Path("other"))]


def test_report_of_a_sweep_with_hypotheses_is_its_audit(invoke, monkeypatch, tmp_path):
    monkeypatch.setattr(study, "write_audit", lambda folder, _out: [folder / "audit.md"])
    (tmp_path / "hypotheses.toml").write_text("level = 0.05")
    answer = invoke("report", str(tmp_path))
    assert answer.exit_code == 0
    assert answer.stdout.endswith("audit.md\n")


def test_report_says_in_one_line_what_is_wrong_with_hypotheses(invoke, tmp_path):
    (tmp_path / "hypotheses.toml").write_text("level = ")
    answer = invoke("report", str(tmp_path))
    assert_one_line(answer, "gaslayers report: read_hypotheses: .* must be TOML")


def test_report_says_in_one_line_that_no_run_is_finished(invoke, tmp_path):
    answer = invoke("report", str(tmp_path))
    assert_one_line(answer, "gaslayers report: write_report: .* must hold a finished run")


def test_help_names_every_command(invoke):
    answer = invoke("--help")
    assert answer.exit_code == 0
    assert all(command in answer.stdout for command in ("study", "report", "cost", "fit"))


SMALL = ("--case", "inception_8", "--iterations", "3", "--batch-size", "4", "--threads", "1")


@pytest.mark.slow
def test_study_trains_draws_and_is_not_done_twice(invoke, tmp_path):
    first = invoke("study", *SMALL, "--out", "study")
    assert first.exit_code == 0
    lines = first.stdout.splitlines()
    name = "inception_8-as_coded-seed0"
    assert re.fullmatch(rf"{name} 1/3  L_D \S+  L_G \S+  \d+ s left", lines[0])
    assert re.fullmatch(rf"{name} 3/3  L_D \S+  L_G \S+  0 s left", lines[1])
    assert all(line.startswith("wrote study/") for line in lines[2:])
    written = {line.removeprefix("wrote ") for line in lines[2:]}
    assert {"study/summary.md", "study/summary.html", "study/samples.png"} <= written
    assert all((tmp_path / path).stat().st_size > 0 for path in written)

    record = RunFolder(tmp_path / "study" / name).record_path
    before = record.read_bytes(), record.stat().st_mtime_ns
    second = invoke("study", *SMALL, "--out", "study")
    assert second.stdout.splitlines() == lines[2:]
    assert (record.read_bytes(), record.stat().st_mtime_ns) == before

    (tmp_path / "study" / "summary.md").unlink()
    third = invoke("report", "study")
    assert third.stdout.splitlines() == lines[2:]
    assert (tmp_path / "study" / "summary.md").exists()


@pytest.fixture
def stop_study(tmp_path):
    """Start a study in a process, send it a signal after its first line, and see how it ends."""

    def stop_study(number, *options):
        # Imported, not by the name of the script, which an environment may not have on its path.
        # Where tests run in the background, their children would inherit that SIGINT is ignored.
        code = (
            "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
            "from gaslayers.cli.app import app; app()"
        )
        command = [sys.executable, "-u", "-c", code, "study", "--threads", "1", *options]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, cwd=tmp_path, **pipes) as process:
            assert process.stdout.readline().startswith("inception_8-as_coded-seed0 1/")
            os.kill(process.pid, number)
            output, errors = process.communicate(timeout=120)
        assert errors == ""
        assert output.endswith("Stopped. The same command goes on from the last checkpoint.\n")
        return process.returncode

    return stop_study


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
def test_study_ends_quietly_at_control_c(stop_study):
    options = ("--case", "inception_8", "--iterations", "5000", "--out", "study")
    assert stop_study(signal.SIGINT, *options) == 130


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGTERM")
def test_study_ended_by_sigterm_goes_on_where_it_was(invoke, stop_study, tmp_path):
    options = ("--case", "inception_8", "--iterations", "20", "--batch-size", "2")
    assert stop_study(signal.SIGTERM, *options, "--out", "stopped") == 143
    name = "inception_8-as_coded-seed0"
    stopped = RunFolder(tmp_path / "stopped" / name)
    assert stopped.checkpoint_path.exists()
    assert not stopped.record_path.exists()
    assert not list(stopped.path.rglob("*.part"))
    with safe_open(stopped.checkpoint_path, framework="pt") as file:
        done = Progress.model_validate_json(file.metadata()["progress"]).next_iteration
    assert 1 <= done < 20
    for out in ("stopped", "whole"):
        assert invoke("study", "--threads", "1", *options, "--out", out).exit_code == 0
    assert read_results(stopped.path) == read_results(tmp_path / "whole" / name)
