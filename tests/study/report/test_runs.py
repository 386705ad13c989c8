from __future__ import annotations

import re
from pathlib import Path

import pytest

from gaslayers.models import CASES
from gaslayers.study.records import RunFolder
from gaslayers.study.report.runs import read_run, read_study

SHORT = {"iterations": 3, "log_every": 1, "sample_every": 2}


def test_study_puts_cases_in_the_order_of_the_study_and_seeds_within(write_run, tmp_path):
    for case in sorted(CASES):
        write_run(case, seed=10, **SHORT)
        write_run(case, seed=9, **SHORT)
    (group,) = read_study(tmp_path).groups
    assert [(run.config.case, run.config.seed) for run in group.runs] == [
        (case, seed) for case in CASES for seed in (9, 10)
    ]
    assert [run.config.seed for run in group.runs_of("inception_8")] == [9, 10]


def test_study_groups_what_differs_in_case_and_seed_alone(write_run, tmp_path):
    write_run("original", variant="modern", **SHORT)
    write_run("original", seed=0, **SHORT)
    write_run("inception_8", seed=1, **SHORT)
    write_run("inception_16", learning_rate=0.5, **SHORT)
    write_run("inception_32", preset="narrow", **SHORT)
    groups = read_study(tmp_path).groups
    assert [[run.config.case for run in group.runs] for group in groups] == [
        ["inception_32"],
        ["original", "inception_8"],
        ["inception_16"],
        ["original"],
    ]


def test_study_names_folders_without_a_record_as_unfinished(write_run, tmp_path):
    write_run("original", **SHORT)
    for name in ("inception_8-as_coded-seed3", "inception_16-modern-seed0", "notes", ".cache"):
        (tmp_path / name).mkdir()
    study = read_study(tmp_path)
    names = [folder.name for folder in study.unfinished]
    assert names == ["inception_16-modern-seed0", "inception_8-as_coded-seed3"]
    (group,) = study.groups
    assert group.why_empty("inception_8") == "unfinished"
    assert group.why_empty("inception_16") == "not run"


def test_study_without_a_finished_run_says_what_to_do(tmp_path):
    (tmp_path / "inception_8-as_coded-seed0").mkdir()
    text = rf"`{re.escape(str(tmp_path))}` must .* inception_8-as_coded-seed0\. Run the study"
    with pytest.raises(FileNotFoundError, match=text):
        read_study(tmp_path)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "EOF"),
        (b'{"preset": "quick"', "EOF"),
        (b"\xff\xfe", "expected value"),
        (b"{}", "preset: Field required"),
    ],
)
def test_run_with_a_broken_record_names_file_and_remedy(write_run, tmp_path, content, fault):
    folder = RunFolder(tmp_path / write_run("original", **SHORT).config.name)
    folder.record_path.write_bytes(content)
    text = rf"`{re.escape(str(folder.record_path))}` must .*{fault}.* Delete its record\.json"
    with pytest.raises(ValueError, match=text):
        read_study(tmp_path)


def test_run_with_a_record_of_an_unknown_case_is_refused(write_run, tmp_path):
    folder = RunFolder(tmp_path / write_run("original", **SHORT).config.name)
    text = folder.record_path.read_text().replace('"original"', '"inception_64"')
    folder.record_path.write_text(text)
    with pytest.raises(ValueError, match=r"record\.json` must .*config\.case: .*inception_64"):
        read_run(folder.path)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("iteration,discriminator_loss\n0,1.0\n", "generator_loss: Field required"),
        ("iteration\nzero\n", "iteration: "),
        ("\0", "got"),
        ("", "end at iteration 2, got None"),
    ],
)
def test_run_with_broken_curves_names_file_and_remedy(write_run, tmp_path, content, fault):
    folder = RunFolder(tmp_path / write_run("original", **SHORT).config.name)
    folder.curves_path.write_text(content)
    text = rf"`{re.escape(str(folder.curves_path))}` must .*{fault}.* Delete its record\.json"
    with pytest.raises(ValueError, match=text):
        read_run(folder.path)


def test_run_with_shortened_curves_is_refused(write_run, tmp_path):
    folder = RunFolder(tmp_path / write_run("original", **SHORT).config.name)
    folder.write_curves(folder.read_curves()[:-1])
    with pytest.raises(ValueError, match=r"curves\.csv` must end at iteration 2, got 1\. Delete"):
        read_run(folder.path)


def test_run_without_curves_names_file_and_remedy(write_run, tmp_path):
    folder = RunFolder(tmp_path / write_run("original", **SHORT).config.name)
    folder.curves_path.unlink()
    with pytest.raises(FileNotFoundError, match=r"curves\.csv` must be there.* Delete its record"):
        read_run(folder.path)


@pytest.mark.parametrize(
    ("name", "fault"),
    [(None, r"end at iteration 2, got 0\."), ("best.png", "named by iteration alone")],
)
def test_run_with_unfit_samples_names_folder_and_remedy(
    write_run, tmp_path: Path, name: str | None, fault: str
):
    folder = RunFolder(tmp_path / write_run("original", **SHORT).config.name)
    last = folder.sample_paths()[2]
    last.unlink() if name is None else last.rename(last.with_name(name))
    with pytest.raises(ValueError, match=rf"samples` must .*{fault}.*Delete the run's folder"):
        read_run(folder.path)


def test_run_that_left_the_finite_numbers_may_end_early(write_run, tmp_path):
    record = write_run("original", non_finite_after=2, **SHORT)
    run = read_run(tmp_path / record.config.name)
    assert [point.iteration for point in run.curves] == [0, 1]
    assert list(run.samples) == [0]
    assert (
        read_run(tmp_path / write_run("inception_8", non_finite_after=0).config.name).curves == []
    )
