"""The GPU benchmark, tried on a CPU: what its record says, and that nothing is done twice."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks import gpu
from benchmarks.workloads import all_work
from gaslayers.models import CASES

without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")


@pytest.mark.parametrize("tiny", [True, False])
def test_the_chosen_work_is_there(tiny):
    chosen = gpu.chosen_work(tiny=tiny)
    assert set(chosen) <= set(all_work())
    assert len(chosen) == len(set(chosen))


def test_trial_has_a_piece_of_every_part(trial):
    record = trial.record
    assert record["unfinished"] == {}
    assert list(record["cases"]) == [f"{CASES[-1]}, lean", f"{CASES[-1]}, plain"]
    (tests,) = record["tests"].values()
    assert tests["failed"] == 0
    assert tests["passed"] + tests["skipped"] > 0
    assert len(record["table"]) == 1
    assert record["run"]["versions"]["torch"] == torch.__version__.partition("+")[0]
    parts = [record[part] for part in ("cases", "tests", "table")]
    assert {p["commit"] for part in parts for p in part.values()} == {record["run"]["commit"]}


def test_memory_of_a_case_has_four_names_and_each_step_its_prediction(trial):
    for found in trial.record["cases"].values():
        steps = found["steps"]
        assert list(steps) == ["discriminator_step", "generator_step"]
        assert found["predicted"] == max(step["predicted"] for step in steps.values())
        assert found["allocated"] == max(step["allocated"] for step in steps.values())
        # A CPU holds nothing back, and no driver charges for it.
        assert (found["reserved"], found["process"]) == (None, None)
        assert found["process_reason"] == "not asked for"


def test_step_that_runs_is_the_step_that_was_predicted(trial):
    for found in trial.record["cases"].values():
        for step in found["steps"].values():
            risen = step["predicted_tensors"] - (step["allocated"] - step["workspace"])
            # What is alive when a step begins is no part of what a CPU's book shows as its rise.
            assert risen > 0
            # Convolutions on a CPU reorder weights and maps, which takes less than the step itself.
            assert 0 <= step["workspace"] < step["predicted_tensors"] / 2


def test_table_compares_lean_with_plain(trial):
    (work,) = trial.record["table"].values()
    rows = work["rows"]
    assert list(rows) == ["plain eager", "gaslayers", "gaslayers, recompute"]
    assert rows["gaslayers"]["kept_bytes"] < rows["plain eager"]["kept_bytes"]
    assert rows["plain eager"]["time_ratio"] == 1
    for row in rows.values():
        assert len(row["seconds"]) == work["turns"] == 3
        assert row["median_seconds"] == sorted(row["seconds"])[1]
        assert row["allocated"] > 0
        assert row["gradients"] == "bit-equal" or row["gradients"].endswith("in float64")


def test_trial_prints_its_tables(trial):
    assert "### The six cases, an iteration, MiB\n\n| case | predicted |" in trial.stdout
    predicted = trial.record["cases"][f"{CASES[-1]}, lean"]["predicted"] / 2**20
    assert f"| {CASES[-1]}, lean | {predicted:.2f} |" in trial.stdout
    assert trial.record["run"]["summary"] in trial.stdout


def test_second_call_does_only_what_is_missing(trial, run_benchmark, tmp_path):
    left_out = f"{CASES[-1]}, plain"
    old = json.loads(json.dumps(trial.record))
    del old["cases"][left_out]
    out = tmp_path / "trial.json"
    out.write_text(json.dumps(old))
    ended = run_benchmark("--device", "cpu", "--tiny", "--out", str(out))
    assert ended.exit_code == 0, ended.output
    new = json.loads(out.read_text())
    assert ended.stdout.startswith(f"cases: {left_out}\n### ")
    done = new["cases"].pop(left_out)
    assert new == old
    assert done["predicted"] == trial.record["cases"][left_out]["predicted"]


@without_cuda
def test_without_a_gpu_one_sentence_and_exit_code_two(run_benchmark, tmp_path):
    ended = run_benchmark("--out", str(tmp_path / "none.json"))
    assert ended.exit_code == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith(f"benchmarks.gpu: PyTorch {torch.__version__} finds no CUDA dev")
    assert ended.stderr.count("\n") == 1
    assert not (tmp_path / "none.json").exists()


def test_record_of_other_conditions_is_not_continued(invoke, tmp_path):
    out = str(tmp_path / "record.json")
    assert invoke("--out", out).exit_code == 0
    assert invoke("--out", out).exit_code == 0
    before = (tmp_path / "record.json").read_text()
    for ended in (invoke("--out", out, "--tiny"), invoke("--out", out, name="Another")):
        assert ended.exit_code == 2
        assert "record.json was measured under other conditions" in ended.stderr
    assert (tmp_path / "record.json").read_text() == before


def test_record_is_named_after_its_device_and_a_trial_is_not_published():
    published = gpu.record_path({"name": "NVIDIA H200 (SXM)", "kind": "cuda"})
    assert published == gpu.RECORDS / "gpu-nvidia-h200-sxm.json"
    assert gpu.record_path({"name": "x86_64", "kind": "cpu"}).parent != gpu.RECORDS


def test_parts_end_one_after_the_other_within_the_time():
    ends = gpu.deadlines(100.0, 50.0)
    assert list(ends) == ["cases", "tests", "table"]
    assert 100 < ends["cases"] < ends["tests"] < ends["table"]
    assert ends["table"] == pytest.approx(150.0)


def test_all_pieces_are_the_cases_the_marked_tests_and_the_table():
    pieces = gpu.all_pieces("cuda", tiny=False)
    titles = {part: [p.title for p in pieces if p.part == part] for part in gpu.SHARES}
    assert titles["cases"] == [f"{case}, {way}" for case in CASES for way in ("lean", "plain")]
    assert "tests/lean/test_cuda.py" in titles["tests"]
    assert {f"{case}, as_coded: pass of D" for case in CASES} <= set(titles["table"])
    assert all("cuda" in p.command for p in pieces if p.part != "tests")
    assert not any("--tiny" in p.command for p in pieces)
