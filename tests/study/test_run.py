from __future__ import annotations

import math
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import gaslayers
from gaslayers.accounting import count
from gaslayers.models import build_discriminator
from gaslayers.study import run as module
from gaslayers.study.checkpoint import CheckpointError
from gaslayers.study.program import code_hash
from gaslayers.study.records import Record, RunFolder
from gaslayers.study.stopping import Terminated, ending_at_sigterm


class StopError(Exception):
    """Ends a run from outside."""


def stop_after(number):
    def on_iteration(done, _):
        if done == number:
            raise StopError

    return on_iteration


@pytest.fixture
def always_saving(monkeypatch):
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", 0.0)


@pytest.fixture(scope="module")
def config(make_config):
    return make_config()


@pytest.fixture(scope="module")
def finished(config, play, tmp_path_factory):
    """The folder of an uninterrupted run; tests only read it."""
    path = tmp_path_factory.mktemp("finished") / config.name
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    play(config, path)
    torch.set_num_threads(threads)
    return path


def test_run_leaves_the_files_of_a_finished_run(finished):
    files = {path.relative_to(finished).as_posix() for path in finished.rglob("*.*")}
    assert files == {
        "record.json",
        "curves.csv",
        "samples/000000.png",
        "samples/000003.png",
        "samples/000005.png",
        "checkpoint.safetensors",
    }


def test_run_returns_the_record_that_it_wrote(config, play, tmp_path):
    record = play(config, tmp_path)
    assert RunFolder(tmp_path).read_record() == record
    assert Record.model_validate_json((tmp_path / "record.json").read_text()) == record


def test_record_says_what_ran_on_what(finished, config, digits):
    record = RunFolder(finished).read_record()
    assert record.config == config
    assert record.config_hash == config.config_hash
    assert record.code_hash == code_hash(config)
    assert (record.preset, record.data_source) == ("tiny", digits.source)
    assert (record.outcome, record.message, record.iterations_done) == ("finished", "", 6)
    assert record.machine.torch == torch.__version__
    assert record.machine.gaslayers == gaslayers.__version__
    assert (record.machine.device, record.machine.threads) == ("cpu", 1)
    assert record.memory is None


def test_record_counts_networks_and_time(finished, config):
    record = RunFolder(finished).read_record()
    tensors = load_file(RunFolder(finished).checkpoint_path)
    assert record.discriminator_parameters == 13_857
    offsets_in_norms = {"running_mean", "running_var", "num_batches_tracked"}
    assert record.generator_parameters == sum(
        tensor.numel()
        for name, tensor in tensors.items()
        if name.startswith("generator.")
        and name.rpartition(".")[2] not in offsets_in_norms
        and not name.endswith("norm.weight")
    )
    image = torch.zeros(1, 1, 28, 28)
    flops = count(build_discriminator("inception_8"), (image,)).flops
    assert record.discriminator_forward_flops == config.batch_size * flops > 0
    assert record.seconds > 0
    assert record.processor_seconds > 0
    rate = record.iterations_per_processor_second
    assert rate == pytest.approx(6 / record.processor_seconds)


def test_curves_hold_the_points_that_were_reported(config, play, tmp_path):
    reported = []
    play(config, tmp_path, lambda done, point: reported.append((done, point)))
    assert [done for done, _ in reported] == [1, 2, 3, 4, 5, 6]
    curves = RunFolder(tmp_path).read_curves()
    assert [point.iteration for point in curves] == [0, 2, 4, 5]
    assert curves == [point for _, point in reported if point is not None]


def test_samples_are_the_pictures_of_their_iteration(finished, make_game, tmp_path):
    game = make_game()
    folder = RunFolder(tmp_path)
    for iteration in range(6):
        game.iterate(iteration)
        if iteration in (0, 3, 5):
            folder.write_samples(iteration, game.sample())
    for iteration, path in RunFolder(finished).sample_paths().items():
        assert path.read_bytes() == folder.sample_paths()[iteration].read_bytes()


def test_run_is_reproduced_by_another(finished, config, play, results, tmp_path):
    torch.manual_seed(99)
    play(config, tmp_path)
    assert results(tmp_path) == results(finished)


def test_logging_and_sampling_do_not_change_the_training(make_config, play, results, tmp_path):
    trained = []
    for every in (1, 100):
        path = tmp_path / str(every)
        play(make_config(log_every=every, sample_every=every, shuffle=True), path)
        trained.append(results(path)["checkpoint"])
    assert trained[0] == trained[1]


@pytest.mark.parametrize("number", [1, 4, 6])
def test_interrupted_run_ends_like_an_uninterrupted_one(
    always_saving, finished, config, play, results, tmp_path, number
):
    with pytest.raises(StopError):
        play(config, tmp_path, stop_after(number))
    assert not RunFolder(tmp_path).record_path.exists()
    reported = []
    play(config, tmp_path, lambda done, point: reported.append((done, point is None)))
    assert reported[0] == (number, True)  # where it goes on from
    assert [done for done, _ in reported[1:]] == list(range(number + 1, 7))
    assert results(tmp_path) == results(finished)


def test_interrupted_run_repeats_what_no_checkpoint_holds(
    finished, config, play, results, monkeypatch, tmp_path
):
    def on_iteration(done, _):
        # The last checkpoint is that of the second iteration; samples of the fourth are there.
        monkeypatch.setattr(module, "CHECKPOINT_SECONDS", 0.0 if done < 2 else 1e9)
        if done == 5:
            raise StopError

    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(StopError):
        play(config, tmp_path, on_iteration)
    started = []
    play(config, tmp_path, lambda done, _: started.append(done))
    assert started[0] == 2
    assert results(tmp_path) == results(finished)


def test_run_goes_on_after_many_interruptions(
    always_saving, finished, config, play, results, tmp_path
):
    for number in range(1, 6):
        with pytest.raises(StopError):
            play(config, tmp_path, stop_after(number))
    play(config, tmp_path)
    assert results(tmp_path) == results(finished)


def test_interrupted_run_adds_up_its_time(always_saving, config, play, monkeypatch, tmp_path):
    # A clock that shows one more second whenever it is read.
    class Clock:
        now = 0.0

        def monotonic(self):
            self.now += 1.0
            return self.now

        process_time = monotonic

    def read_progress():
        with safe_open(RunFolder(tmp_path).checkpoint_path, framework="pt") as file:
            return module.Progress.model_validate_json(file.metadata()["progress"])

    monkeypatch.setattr(module, "time", Clock())
    with pytest.raises(StopError):
        play(config, tmp_path, stop_after(3))
    before = read_progress()
    monkeypatch.setattr(module, "time", Clock())
    with pytest.raises(StopError):
        play(config, tmp_path, stop_after(4))
    after = read_progress()
    # One iteration takes as many readings of the clock whenever it runs.
    assert 0 < after.seconds - before.seconds < before.seconds
    assert 0 < after.processor_seconds - before.processor_seconds < before.processor_seconds


def test_run_saves_what_it_has_done_when_sigterm_comes(
    finished, config, play, results, monkeypatch, tmp_path
):
    # Never saved but for the signal, and at the end.
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", 1e9)

    def on_iteration(done, _):
        if done == 3:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Terminated), ending_at_sigterm():
        play(config, tmp_path, on_iteration)
    assert not RunFolder(tmp_path).record_path.exists()
    started = []
    play(config, tmp_path, lambda done, _: started.append(done))
    assert started[0] == 4  # the iteration in which it came was brought to its end
    assert results(tmp_path) == results(finished)


def test_run_saves_no_more_often_than_asked(config, play, monkeypatch, tmp_path):
    saves = []
    save = module.save_checkpoint
    monkeypatch.setattr(
        module,
        "save_checkpoint",
        lambda path, game, progress: (
            saves.append(progress.next_iteration) or save(path, game, progress)
        ),
    )
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", 1e9)
    play(config, tmp_path)
    assert saves == [6]


def test_run_does_not_train_a_finished_checkpoint_further(
    finished, config, play, results, tmp_path
):
    play(config, tmp_path)
    RunFolder(tmp_path).record_path.unlink()  # killed right before the record was written
    reported = []
    play(config, tmp_path, lambda done, _: reported.append(done))
    assert reported == [6]
    assert results(tmp_path) == results(finished)


def test_run_refuses_checkpoint_of_another_program(
    always_saving, config, play, monkeypatch, tmp_path
):
    with pytest.raises(StopError):
        play(config, tmp_path, stop_after(2))
    monkeypatch.setattr(module, "code_hash", lambda _: "d" * 64)
    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors was written by a program"):
        play(config, tmp_path)


def test_run_refuses_damaged_checkpoint_and_leaves_it(always_saving, config, play, tmp_path):
    with pytest.raises(StopError):
        play(config, tmp_path, stop_after(2))
    checkpoint = RunFolder(tmp_path).checkpoint_path
    half = checkpoint.read_bytes()[:1000]
    checkpoint.write_bytes(half)
    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors is not a readable"):
        play(config, tmp_path)
    assert checkpoint.read_bytes() == half
    assert not RunFolder(tmp_path).record_path.exists()


def test_run_killed_while_saving_goes_on_from_previous_checkpoint(
    always_saving, finished, config, play, results, monkeypatch, tmp_path
):
    replace, names = Path.replace, []

    def fail_at_third_checkpoint(source, target):
        names.append(Path(target).name)
        if names.count("checkpoint.safetensors") == 3:
            raise StopError
        return replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail_at_third_checkpoint)
        with pytest.raises(StopError):
            play(config, tmp_path)
    started = []
    play(config, tmp_path, lambda done, _: started.append(done))
    assert started[0] == 2
    assert results(tmp_path) == results(finished)


@pytest.mark.parametrize("optimizer", ["rmsprop_tf", "adam"])
def test_run_that_diverges_leaves_a_record_that_says_so(make_config, play, tmp_path, optimizer):
    config = make_config(learning_rate=1e30, variant="as_described", optimizer=optimizer)
    record = play(config, tmp_path)
    assert record.outcome == "non_finite"
    assert record.iterations_done < config.iterations
    assert record.message.startswith(f"after {record.iterations_done} iterations the loss is ")
    assert RunFolder(tmp_path).read_record() == record
    points = [point.iteration for point in RunFolder(tmp_path).read_curves()]
    assert points == [n for n in range(record.iterations_done) if config.is_logged(n)]


KILLED_RUN = """
import os, signal, sys
from pathlib import Path
import torch
from lightning_fabric import Fabric
from gaslayers.study import run as module
from gaslayers.study.config import RunConfig
from gaslayers.study.data import load_digits
from gaslayers.study.records import RunFolder

last, while_writing = int(sys.argv[3]), sys.argv[4] == "writing"

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def on_iteration(done, _):
    if done >= last and while_writing:
        os.fsync = die  # the next write is half done when it comes here
    elif done >= last:
        die()

module.CHECKPOINT_SECONDS = 0.0
torch.set_num_threads(1)
module.run(
    RunConfig.model_validate_json(sys.argv[1]),
    RunFolder(Path(sys.argv[2])),
    load_digits(),
    Fabric(accelerator="cpu", devices=1),
    preset="tiny",
    on_iteration=on_iteration,
)
"""


def run_until_killed(config, path, number, moment):
    arguments = [config.model_dump_json(), str(path), str(number), moment]
    ended = subprocess.run([sys.executable, "-c", KILLED_RUN, *arguments], check=False)
    assert ended.returncode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_killed_run_ends_like_an_uninterrupted_one(make_config, play, results, tmp_path):
    config = make_config(case="depthwise_inception_dense", iterations=16, sample_every=7)
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for number, moment in ((3, "training"), (9, "writing")):
        run_until_killed(config, killed, number, moment)
        assert not RunFolder(killed).record_path.exists()
    (half,) = killed.rglob(".*.part")
    assert half.name.startswith(".checkpoint.safetensors.")
    started = []
    play(config, killed, lambda done, _: started.append(done))
    assert started[0] == 9
    assert not half.exists()
    play(config, whole)
    assert results(killed) == results(whole)


def test_generator_that_ends_without_numbers_has_a_record_that_says_so(
    config, digits, fabric, monkeypatch, tmp_path
):
    # Losses are looked at before a step, so the last one may break G unseen.
    class Broken(module.Game):
        def iterate(self, iteration):
            super().iterate(iteration)
            if iteration == self.config.iterations - 1:
                torch.nn.init.constant_(self.generator.conv_full.conv.weight, math.nan)

    monkeypatch.setattr(module, "Game", Broken)
    folder = RunFolder(tmp_path / config.name)
    record = module.run(
        config, folder, digits, fabric, preset="tiny", on_iteration=module.ignore, judged=True
    )
    assert (record.outcome, record.evaluation) == ("non_finite", None)
    assert "G makes pixels that are not finite" in record.message
    assert folder.read_record() == record
