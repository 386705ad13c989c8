from __future__ import annotations

import pytest

from gaslayers.study.config import PRESET_NOTES
from gaslayers.study.report.captions import caption_lines, describe_preset, describe_seeds
from gaslayers.study.report.runs import read_study

SHORT = {"iterations": 3, "log_every": 1, "sample_every": 2}


@pytest.mark.parametrize("preset", PRESET_NOTES)
def test_caption_states_preset_and_its_note(write_run, tmp_path, preset):
    write_run("original", preset=preset, seed=4)
    (group,) = read_study(tmp_path).groups
    first, second = caption_lines(group, group.runs)
    assert first.startswith(f"preset {preset}")
    assert PRESET_NOTES[preset] in first
    assert "changed" not in first
    assert f"{group.config.iterations} iterations, batch 32, D:G steps 1:4, seed 4;" in second
    assert second.endswith("data: synthetic shapes")


def test_caption_states_what_was_changed_of_a_preset(write_run, tmp_path):
    write_run("original", preset="narrow", variant="modern", generator_steps=2, **SHORT)
    (group,) = read_study(tmp_path).groups
    assert describe_preset(group) == (
        "preset narrow: generator at a quarter of the FLOPs; "
        "changed: iterations 3, generator_steps 2"
    )


def test_caption_names_the_digits(write_run, tmp_path):
    record = write_run("original", **SHORT)
    path = tmp_path / record.config.name / "record.json"
    known = {"embedded": "10,000 embedded MNIST digits", "mnist": "60,000 MNIST training digits"}
    for source, words in known.items():
        text = record.model_copy(update={"data_source": source}).model_dump_json()
        path.write_text(text)
        (group,) = read_study(tmp_path).groups
        assert caption_lines(group, group.runs)[1].endswith(f"data: {words}")


@pytest.mark.parametrize(
    ("seeds", "words"),
    [([7], "seed 7"), ([2, 0], "seeds 0, 2"), (range(6), "6 seeds")],
)
def test_caption_names_few_seeds_and_counts_many(write_run, tmp_path, seeds, words):
    for seed in seeds:
        write_run("original", seed=seed, **SHORT)
    (group,) = read_study(tmp_path).groups
    assert describe_seeds(group.runs) == words
