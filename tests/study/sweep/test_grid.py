from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from gaslayers.models import CASES
from gaslayers.study.config import PRESETS, make_configs
from gaslayers.study.sweep import read_grid

SHA256 = "0" * 64
FAMILY = "[families.some]\ncases = ['original']\nseeds = 2\n"


@pytest.fixture
def grid(tmp_path):
    """Read a grid from its text."""

    def grid(text):
        path = tmp_path / "grid.toml"
        path.write_text(text)
        return read_grid(path)

    return grid


def plan(grid, **choices):
    return grid.plan(Path("out"), data_sha256=SHA256, **choices)


def test_family_is_a_study_of_all_cases_by_default(grid):
    planned = plan(grid("[families.all]\nseeds = 1"))
    assert [one.config.case for one in planned] == list(CASES)
    assert {(one.config.variant, one.config.seed) for one in planned} == {("modern", 0)}
    assert {(one.folder, one.preset) for one in planned} == {(Path("out/all"), "narrow")}
    assert {one.hypotheses_sha256 for one in planned} == {None}


def test_planned_run_is_that_of_the_same_study(grid):
    text = FAMILY + "variants = ['as_coded', 'modern']\noptions.iterations = 7"
    expected = make_configs(
        "narrow",
        cases=["original"],
        variants=["as_coded", "modern"],
        seeds=[0, 1],
        data_sha256=SHA256,
        options={"iterations": 7},
    )
    planned = [one.config for one in plan(grid(text))]
    assert sorted(planned, key=hash) == sorted(expected, key=hash)


def test_runs_come_by_seed_so_that_a_stopped_sweep_has_the_same_seeds_of_all(grid):
    other = FAMILY.replace("some", "other") + "factors.base_filters = [4, 8]"
    planned = plan(grid(f"{FAMILY}{other}"))
    asked = [(one.config.seed, one.folder.as_posix()) for one in planned]
    folders = ["out/some", "out/other/base_filters_4", "out/other/base_filters_8"]
    assert asked == [(seed, folder) for seed in (0, 1) for folder in folders]


def test_factors_are_crossed_and_name_the_folder(grid):
    factors = "factors = {inner_norm = [false, true], width_multiplier = [1.0, 4.0]}"
    text = f"[families.some]\ncases = ['depthwise_inception']\nseeds = [3]\n{factors}"
    planned = plan(grid(text))
    assert [one.folder.name for one in planned] == [
        "inner_norm_false-width_multiplier_1.0",
        "inner_norm_false-width_multiplier_4.0",
        "inner_norm_true-width_multiplier_1.0",
        "inner_norm_true-width_multiplier_4.0",
    ]
    switches = [one.config.discriminator_switches for one in planned]
    found = [(one.inner_norm, one.width_multiplier) for one in switches]
    assert found == [(False, 1.0), (False, 4.0), (True, 1.0), (True, 4.0)]
    assert len({one.run_folder.path for one in planned}) == 4


def test_nearer_options_win(grid):
    head = "preset = 'quick'\noptions = {iterations = 9, batch_size = 6}\n"
    text = f"{head}{FAMILY}preset = 'faithful'\noptions.batch_size = 8\nfactors.iterations = [5]"
    (one, _) = plan(grid(text))
    assert (one.preset, one.config.iterations, one.config.batch_size) == ("faithful", 5, 8)
    assert one.config.log_every == PRESETS["faithful"]["log_every"]


def test_families_and_seeds_are_chosen_by_name_and_number(grid):
    read = grid(FAMILY + FAMILY.replace("some", "other"))
    chosen = plan(read, families=["other", "other"], seeds=[1, 7])
    assert [(one.folder, one.config.seed) for one in chosen] == [(Path("out/other"), 1)]


def test_hash_of_hypotheses_goes_into_every_run(grid, tmp_path):
    (tmp_path / "why.toml").write_text("claims")
    planned = plan(grid(f"hypotheses = 'why.toml'\n{FAMILY}"))
    expected = hashlib.sha256(b"claims").hexdigest()
    assert {one.hypotheses_sha256 for one in planned} == {expected}


def test_hypotheses_must_be_there(grid):
    with pytest.raises(FileNotFoundError, match=r"why\.toml"):
        grid(f"hypotheses = 'why.toml'\n{FAMILY}")


def test_grid_must_be_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.toml"):
        read_grid(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("families", "must be TOML, got"),
        ("", r"grid.toml.families`: Field required"),
        ("families = {}", r"families`: Dictionary should have at least 1 item"),
        ("surplus = 1\n" + FAMILY, r"surplus`: Extra inputs are not permitted"),
        (FAMILY + "surplus = 1", r"families.some.surplus`: Extra inputs"),
        (FAMILY.replace("some", "Some"), "small letters, digits and underscores.*got 'Some'"),
        (FAMILY.replace("some", "'../out'"), "small letters.*got '../out'"),
        ("preset = 'slow'\n" + FAMILY, "`preset` must be one of faithful, .*got 'slow'"),
        (FAMILY + "preset = 'slow'", "`families.some.preset` must be one of .*got 'slow'"),
        ("[families.some]", r"families.some.seeds`: Field required"),
        ("[families.some]\nseeds = 0", "seeds`: Input should be a list .*from 1 to .*got 0"),
        ("[families.some]\nseeds = 10_000_000_000", "seeds`: Input should be .*got 10000000000"),
        ("[families.some]\nseeds = []", "seeds`: List should have at least 1 item"),
        ("[families.some]\nseeds = true", "seeds`: Input should be a valid list, got True"),
        ("[families.some]\nseeds = 'all'", "seeds`: Input should be a valid list, got 'all'"),
        (FAMILY + "options.speed = 1", "`families.some` must have options .*got 'speed'"),
        (FAMILY + "factors.speed = [1]", "`families.some` must have options .*got 'speed'"),
        ("options.speed = 1\n" + FAMILY, "`options` must have options .*got 'speed'"),
        (FAMILY + "options.seed = 1", "must have options .*got 'seed'"),
        (FAMILY + "factors.case = ['original']", "must have options .*got 'case'"),
        (FAMILY + "options.switches = {}", "options.switches"),
        (
            FAMILY + "options.packing = 2\nfactors.packing = [1, 2]",
            "`families.some.packing` must be either an option or a factor, got 'both'",
        ),
        (FAMILY + "factors.packing = []", r"some.packing` must be values that differ, got \[\]"),
        (FAMILY + "factors.packing = [2, 2]", r"packing` must be values that differ, got \[2, 2\]"),
        (FAMILY + "factors.packing = 2", "factors.packing`: Input should be a valid list, got 2"),
    ],
)
def test_reading_names_what_is_wrong_with_a_grid(grid, text, match):
    with pytest.raises(ValueError, match=f"^read_grid: (.|\n)*{match}"):
        grid(text)


def test_reading_refuses_what_is_no_text(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="must be TOML, got \"'utf-8' codec"):
        read_grid(path)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (FAMILY.replace("original", "first"), r"families.some.case`: .*got 'first'"),
        (FAMILY + "variants = ['new']", r"families.some.variant`: .*got 'new'"),
        (FAMILY.replace("= 2", "= [-1]"), r"families.some.seed`: .*got -1"),
        (FAMILY + "options.learning_rate = nan", r"families.some.learning_rate`: .*got nan"),
        (FAMILY + "options.head = 'round'", r"families.some.switches`: .*round"),
        (FAMILY + "options.batch_size = 'many'", r"some.batch_size`: .*got 'many'"),
        (
            FAMILY.replace("= 2", "= [1, 1]"),
            "`families.some` must have each run once, got 'out/some",
        ),
        (FAMILY.replace("['original']", "['original', 'original']"), "must have each run once"),
        (FAMILY + "factors.base_filters = [8, 8.0]", "must have each run once"),
    ],
)
def test_planning_names_the_family_that_has_no_such_run(grid, text, match):
    with pytest.raises(ValueError, match=match):
        plan(grid(text))


def test_planning_refuses_a_family_that_is_not_there(grid):
    match = "`families` must be among some, got 'other'"
    with pytest.raises(ValueError, match=match):
        plan(grid(FAMILY), families=["other"])


def test_planning_refuses_to_leave_no_run(grid):
    with pytest.raises(ValueError, match=re.escape("`seeds` must leave a run, got [7]")):
        plan(grid(FAMILY), seeds=[7])
