from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from gaslayers.study.records import CurvePoint, Machine, Record, RunFolder, write_atomically

MACHINE = Machine(
    device="cpu",
    processor="some processor",
    threads=1,
    platform="Linux",
    python="3.12.0",
    torch="2.14.1",
    gaslayers="0.1.0",
)


@pytest.fixture
def record(make_config):
    config = make_config(learning_rate=0.1 + 0.2)
    return Record(
        preset="tiny",
        config=config,
        config_hash=config.config_hash,
        code_hash="c" * 64,
        data_source="embedded",
        machine=MACHINE,
        outcome="finished",
        iterations_done=6,
        seconds=1 / 3,
        processor_seconds=0.25,
        discriminator_parameters=13_857,
        generator_parameters=1000,
        discriminator_forward_flops=1_000_000,
        flops_convention="some convention",
    )


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run")


def test_record_reads_back_equal(folder, record):
    folder.write_record(record)
    assert folder.read_record() == record


def test_rate_is_of_processor_seconds_which_load_leaves_alone(record):
    assert record.iterations_per_processor_second == 24.0
    slowed = record.model_copy(update={"seconds": 100.0})
    assert slowed.iterations_per_processor_second == 24.0
    assert record.model_copy(update={"processor_seconds": 0.0}).iterations_per_processor_second == 0


def test_older_record_loses_its_rate_over_the_clock(folder, record):
    older = record.model_dump() | {"iterations_per_second": 18.0}
    folder.path.mkdir()
    folder.record_path.write_text(json.dumps(older), encoding="utf-8")
    assert folder.read_record() == record


def test_read_record_names_missing_file(folder):
    with pytest.raises(FileNotFoundError, match=re.escape(str(folder.record_path))):
        folder.read_record()


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda text: text[: len(text) // 2], "Invalid JSON"),
        (lambda text: text.replace('"schema_version": 2', '"schema_version": 3'), "schema_version"),
        (lambda text: text.replace('"preset"', '"presets"'), "preset\n.*Field required"),
        (lambda text: text.replace('"finished"', '"excellent"'), "outcome\n"),
        (lambda text: text.replace('"inception_8"', '"inception_9"'), r"config\.case\n"),
    ],
    ids=["truncated", "version", "field", "outcome", "case"],
)
def test_read_record_refuses_what_does_not_fit_schema(folder, record, spoil, match):
    folder.write_record(record)
    text = folder.record_path.read_text()
    folder.record_path.write_text(spoil(text))
    with pytest.raises(ValidationError, match=match):
        folder.read_record()


def make_point(iteration, *values):
    names = list(CurvePoint.model_fields)[1:]
    return CurvePoint(iteration=iteration, **dict(zip(names, values, strict=False)))


readings = st.lists(st.floats(allow_nan=False), min_size=6, max_size=6)


@given(rows=st.lists(readings, max_size=4))
def test_curves_read_back_equal(tmp_path_factory, rows):
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    curves = [make_point(10 * index, *row) for index, row in enumerate(rows)]
    folder.write_curves(curves)
    assert folder.read_curves() == curves


def test_curves_keep_not_a_number(folder):
    folder.write_curves([make_point(3, math.nan, 0.1, 0.2, 0.3, 0.4, 0.5)])
    (point,) = folder.read_curves()
    assert math.isnan(point.discriminator_loss)


def test_curves_are_csv_with_a_header(folder):
    folder.write_curves([make_point(0, 8.0, 4.0, 0.5, 0.25, -0.5, 0.125)])
    assert folder.curves_path.read_text() == (
        "iteration,discriminator_loss,generator_loss,"
        "real_logit_mean,real_logit_std,fake_logit_mean,fake_logit_std,"
        "real_slope,fake_slope,gradient_norm\n"
        "0,8.0,4.0,0.5,0.25,-0.5,0.125,,,\n"
    )


def test_curves_of_earlier_records_are_read(folder):
    folder.curves_path.parent.mkdir(parents=True, exist_ok=True)
    folder.curves_path.write_text(
        "iteration,discriminator_loss,generator_loss,"
        "real_logit_mean,real_logit_std,fake_logit_mean,fake_logit_std\n"
        "0,8.0,4.0,0.5,0.25,-0.5,0.125\n"
    )
    assert folder.read_curves() == [make_point(0, 8.0, 4.0, 0.5, 0.25, -0.5, 0.125)]


def test_samples_lie_row_by_row_without_gaps(folder):
    # Image n is of grey n + 1, with its own corner, so that neither order nor flips can hide.
    images = torch.arange(1, 33).view(32, 1, 1, 1).repeat(1, 1, 28, 28) / 255
    images[:, :, 0, 0] = 1.0
    images[:, :, 0, 1] = 0.0
    folder.write_samples(200, images)
    with Image.open(folder.sample_paths()[200]) as picture:
        assert picture.mode == "L"
        pixels = np.asarray(picture)
    assert pixels.shape == (4 * 28, 8 * 28)
    expected = images.mul(255).round().to(torch.uint8)
    for index in range(32):
        row, column = divmod(index, 8)
        tile = pixels[28 * row : 28 * (row + 1), 28 * column : 28 * (column + 1)]
        np.testing.assert_array_equal(tile, expected[index, 0].numpy())


def test_sample_paths_are_by_iteration_in_order(folder):
    for iteration in (200, 0, 1999):
        folder.write_samples(iteration, torch.zeros(32, 1, 28, 28))
    (folder.samples_path / ".000400.png.half").touch()
    assert list(folder.sample_paths()) == [0, 200, 1999]
    assert folder.sample_paths()[200] == folder.samples_path / "000200.png"


def test_leftovers_of_killed_writers_are_removed_and_nothing_else(folder):
    folder.write_curves([])
    folder.write_samples(200, torch.zeros(32, 1, 28, 28))
    folder.lock_path.touch()
    (folder.path / "notes.txt").touch()
    (folder.path / "kept.part").mkdir()
    kept = set(folder.path.rglob("*"))
    leftovers = [
        folder.path / ".checkpoint.safetensors.x1y2.part",
        folder.path / ".record.json.x1y2",  # as before files in work ended in .part
        folder.path / "curves.csv.tmp",
        folder.samples_path / ".000400.png.x1y2.part",
    ]
    for path in leftovers:
        path.write_bytes(b"half")
    folder.remove_leftovers()
    assert set(folder.path.rglob("*")) == kept


def test_folder_that_is_not_there_yet_has_no_leftovers(folder):
    folder.remove_leftovers()
    assert not folder.path.exists()


def fail(*_):
    raise OSError("no space left")


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace"])
def test_write_atomically_keeps_previous_file_when_it_fails(tmp_path, monkeypatch, step):
    path = tmp_path / "file"
    write_atomically(path, b"before")
    with monkeypatch.context() as patch:
        patch.setattr(step, fail)
        with pytest.raises(OSError, match="no space left"):
            write_atomically(path, b"after")
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_write_atomically_never_shows_half_a_file(tmp_path, monkeypatch):
    path, seen = tmp_path / "file", []
    replace = Path.replace

    def look(source, target):
        assert source.suffix == ".part"  # the name that leftovers are told by
        seen.append((path.exists(), source.read_bytes()))
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", look)
    write_atomically(path, b"content")
    assert seen == [(False, b"content")]
    assert path.read_bytes() == b"content"


def test_write_atomically_makes_folders_and_files_that_others_may_read(tmp_path):
    path = tmp_path / "a" / "b" / "file"
    write_atomically(path, b"content")
    assert path.stat().st_mode & 0o777 == 0o644
