"""From tests to the verdict on a claim, and what is refused on the way."""

from __future__ import annotations

import json
import re

import pytest

from gaslayers.study.audit import audit, read_hypotheses, read_settings

CLAIM = """
[[claims]]
id = 1
statement = "Small ones fail."

[[claims.tests]]
setting = "today"
kind = "fails"
first = {family = "small", case = "inception_8"}

[[claims.tests]]
setting = "today"
kind = "fails"
first = {family = "small", case = "inception_16"}

[[claims.tests]]
setting = "as it ran"
kind = "smaller"
ratio = 2.0
first = {family = "small", case = "inception_8"}
second = {family = "small", case = "inception_16"}
"""


@pytest.mark.parametrize(
    ("failures", "word"),
    [((6, 6), "supported"), ((6, 3), "undecided"), ((0, 6), "refuted"), ((0, 3), "refuted")],
)
def test_a_claim_stands_where_all_of_its_tests_do(sweep, failures, word):
    sweep.ask(CLAIM, seeds=6)
    for case, count in zip(("inception_8", "inception_16"), failures, strict=True):
        for seed in range(6):
            sweep.plant("small", case, seed, failed=seed < count)
    ((verdict,), questions) = audit(sweep.path).claims, audit(sweep.path).questions
    assert questions == ()
    assert verdict.words == {"as it ran": "refuted", "today": word}
    assert [len(some) for some in verdict.decisions.values()] == [1, 2]


def spoil(path, change):
    record = path / "record.json"
    content = json.loads(record.read_text())
    change(content)
    record.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda c: c.update(schema_version=3), "schema_version"),
        (lambda c: c.update(config_hash="0" * 64), "carry the hash of its configuration"),
        (lambda c: c["config"].update(seed=5), "carry the hash of its configuration"),
        (lambda c: c.update(hypotheses_sha256=None), "hash of the hypotheses, .* got None"),
        (lambda c: c.update(hypotheses_sha256="0" * 64), "hash of the hypotheses"),
        (lambda c: c.update(evaluation=None), "have an evaluation, got None"),
    ],
)
def test_a_record_that_is_of_something_else_is_refused(sweep, change, match):
    sweep.ask(CLAIM, seeds=6)
    spoil(sweep.plant("small", "inception_8", 0), change)
    with pytest.raises(ValueError, match=match):
        audit(sweep.path)


def test_a_letter_changed_in_the_hypotheses_shows(sweep):
    sweep.ask(CLAIM, seeds=6)
    sweep.plant("small", "inception_8", 0)
    audit(sweep.path)
    path = sweep.path / "hypotheses.toml"
    path.write_text(path.read_text().replace("fail.", "fail!"))
    with pytest.raises(ValueError, match="carry the hash of the hypotheses"):
        audit(sweep.path)


def test_a_folder_that_is_no_sweep_is_refused(tmp_path, sweep):
    with pytest.raises(FileNotFoundError, match=r"hypotheses\.toml"):
        audit(tmp_path)
    sweep.ask(CLAIM, seeds=6)
    with pytest.raises(FileNotFoundError, match="hold a finished run"):
        audit(sweep.path)


def test_settings_are_runs_that_differ_in_their_seed_alone(sweep):
    for seed in (2, 0):
        sweep.plant("plain/base_filters_16", "original", seed, base_filters=16)
        sweep.plant("plain/base_filters_8", "original", seed, base_filters=8)
        sweep.plant("plain/base_filters_8", "original", seed, variant="as_coded", base_filters=8)
        sweep.plant("plain/base_filters_8", "inception_8", seed, base_filters=8)
    settings = read_settings(sweep.path)
    assert [(one.folder, one.case, one.variant) for one in settings] == [
        ("plain/base_filters_8", "original", "as_coded"),
        ("plain/base_filters_8", "original", "modern"),
        ("plain/base_filters_8", "inception_8", "modern"),
        ("plain/base_filters_16", "original", "modern"),
    ]
    assert {tuple(one.runs) for one in settings} == {(0, 2)}


def test_a_place_in_two_variants_is_ambiguous(sweep):
    sweep.ask(CLAIM, seeds=6)
    for variant in ("as_coded", "modern"):
        sweep.plant("small", "inception_8", 0, variant=variant)
    with pytest.raises(ValueError, match="be of one variant"):
        audit(sweep.path)


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("ratio = 2.0", "", "a ratio goes with the kind 'smaller'"),
        ('kind = "fails"', 'kind = "collapses"', "Input should be 'equal'"),
        ('kind = "fails"', 'kind = "worse"', "has a second setting"),
        ('case = "inception_8"', 'case = "inception_9"', "case must be one of original, "),
        ('setting = "today"', 'setting = "tomorrow"', "'as it ran' or 'today'"),
        ("id = 1", "id = 1\nids = 2", "claims.0.ids`: Extra inputs"),
        ("id = 1", "id = ", "must be TOML"),
        ("level = 0.05", "level = 0.5", "level`: Input should be less than 0.5"),
        ('"frechet_distance"', '"precision"', "metric must be one of frechet_distance, "),
    ],
)
def test_hypotheses_that_do_not_fit_are_refused(sweep, old, new, match):
    sweep.ask(CLAIM)
    path = sweep.path / "hypotheses.toml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=r"read_hypotheses: `.*hypotheses\.toml.*" + match):
        read_hypotheses(path)


def test_the_hypotheses_of_the_audit_are_about_runs_of_its_grid(tmp_path):
    from pathlib import Path

    from gaslayers.study.sweep import read_grid

    folder = Path(__file__).parents[3] / "examples" / "records" / "audit"
    planned = read_grid(folder / "grid.toml").plan(tmp_path, data_sha256="0" * 64)
    there = {
        (run.folder.relative_to(tmp_path).as_posix(), run.config.case, run.config.seed)
        for run in planned
    }
    hypotheses = read_hypotheses(folder / "hypotheses.toml")
    tests = [test for claim in hypotheses.claims for test in claim.tests]
    assert [claim.id for claim in hypotheses.claims] == [1, 2, 3, 4, 5, 6]
    for test in (*tests, *hypotheses.questions):
        for place in filter(None, (test.first, test.second)):
            for seed in range(hypotheses.seeds):
                assert (place.folder, place.case, seed) in there, (place, seed)


def test_words_of_evidence_read_as_sentences(sweep):
    sweep.ask(CLAIM, seeds=6)
    for case in ("inception_8", "inception_16"):
        for seed in range(6):
            sweep.plant("small", case, seed, failed=True)
    (verdict,) = audit(sweep.path).claims
    for decisions in verdict.decisions.values():
        for decision in decisions:
            assert re.fullmatch(r"[A-Z0-9].*\.", decision.evidence), decision.evidence
