from __future__ import annotations

import pytest

from gaslayers.models import CASES
from gaslayers.study.records import MemoryReading, RunFolder
from gaslayers.study.report.runs import read_study
from gaslayers.study.report.tables import (
    cost_of,
    hashes_of,
    outcome_of,
    provenance_of,
    settings_of,
)

SHORT = {"iterations": 30, "log_every": 7, "sample_every": 10}


def read_group(tmp_path):
    (group,) = read_study(tmp_path).groups
    return group


def as_dicts(table):
    return [dict(zip(table.headings, row, strict=True)) for row in table.rows]


def test_outcomes_are_those_of_the_records(write_run, tmp_path):
    records = [
        write_run(case, seed=seed, non_finite_after=20 if case == "inception_8" else None, **SHORT)
        for case in CASES
        for seed in (0, 3)
    ]
    rows = as_dicts(outcome_of(read_group(tmp_path)))
    assert len(rows) == len(records)
    for row, record in zip(rows, records, strict=True):
        last = RunFolder(tmp_path / record.config.name).read_curves()[-1]
        assert (row["case"], row["seed"]) == (record.config.case, str(record.config.seed))
        assert int(row["iterations"]) == record.iterations_done
        assert float(row["final L_D"]) == pytest.approx(last.discriminator_loss, rel=5e-4)
        assert float(row["final L_G"]) == pytest.approx(last.generator_loss, rel=5e-4)
        for kind in ("real", "fake"):
            mean, spread = row[f"logits on {kind}, mean ± std"].split(" ± ")
            assert float(mean) == pytest.approx(getattr(last, f"{kind}_logit_mean"), rel=5e-3)
            assert float(spread) == getattr(last, f"{kind}_logit_std")
        is_finite = record.config.case != "inception_8"
        ended = "finished" if is_finite else "non finite: after 20 iterations the loss is nan"
        assert row["outcome"] == ended


def test_outcome_without_any_reading_leaves_cells_open(write_run, tmp_path):
    write_run("original", non_finite_after=0, **SHORT)
    (row,) = as_dicts(outcome_of(read_group(tmp_path)))
    assert row["iterations"] == "0"
    assert row["final L_D"] == row["logits on fake, mean ± std"] == "-"


def test_costs_are_those_of_the_records(write_run, tmp_path):
    records = [write_run(case, batch_size=8, **SHORT) for case in CASES]
    for row, record in zip(as_dicts(cost_of(read_group(tmp_path))), records, strict=True):
        assert row["case"] == record.config.case
        assert int(row["D parameters"].replace(",", "")) == record.discriminator_parameters
        flops, unit = row["D forward FLOPs, batch 8"].split()
        assert unit == "G"
        assert float(flops) == pytest.approx(record.discriminator_forward_flops / 1e9, abs=5e-4)
        assert float(row["seconds on the clock"]) == pytest.approx(record.seconds, abs=0.051)
        assert float(row["processor seconds"]) == pytest.approx(record.processor_seconds, abs=0.051)
        rate = record.iterations_done / record.processor_seconds
        assert float(row["iterations per processor second"]) == pytest.approx(rate, rel=5e-3)
        assert not any("peak" in heading for heading in row)


def test_memory_readings_keep_their_names(write_run, tmp_path, memory: MemoryReading):
    write_run("original", memory=memory, **SHORT)
    write_run("inception_8", **SHORT)
    first, second = as_dicts(cost_of(read_group(tmp_path)))
    assert first["D step: peak allocated"] == "3.0 MiB"
    assert first["D step: peak reserved"] == "22.0 MiB"
    assert first["D step: process memory"] == "-"
    assert second["D step: peak allocated"] == second["D step: peak reserved"] == "-"


def test_hashes_are_the_beginnings_of_the_records(write_run, tmp_path):
    records = [write_run(case, **SHORT) for case in CASES]
    for row, record in zip(as_dicts(hashes_of(read_group(tmp_path))), records, strict=True):
        assert row["run"] == record.config.name
        assert record.config_hash.startswith(row["config hash"])
        assert record.code_hash.startswith(row["code hash"])
        assert len(row["config hash"]) == len(row["code hash"]) == 12


def test_provenance_names_data_versions_and_every_machine(write_run, tmp_path):
    record = write_run("original", **SHORT)
    other = write_run("inception_8", **SHORT)
    machine = other.machine.model_copy(update={"device": "another device"})
    folder = RunFolder(tmp_path / other.config.name)
    folder.write_record(other.model_copy(update={"machine": machine}))
    provenance = provenance_of(read_group(tmp_path))
    assert provenance["device"] == "synthetic device, another device"
    assert provenance["data"] == record.data_source
    assert provenance["data, SHA-256"] == record.config.data_sha256
    assert provenance["PyTorch"] == record.machine.torch
    assert provenance["gaslayers"] == record.machine.gaslayers
    assert provenance["Python"] == record.machine.python
    assert provenance["processor"] == record.machine.processor
    assert provenance["threads"] == str(record.machine.threads)
    assert provenance["FLOPs"] == record.flops_convention


def test_settings_are_all_choices_but_those_that_name_a_run(write_run, tmp_path):
    config = write_run("original", learning_rate=0.25, **SHORT).config
    settings = settings_of(read_group(tmp_path))
    assert settings["learning_rate"] == "0.25"
    assert set(settings) == set(type(config).model_fields) - {"case", "seed", "data_sha256"}
