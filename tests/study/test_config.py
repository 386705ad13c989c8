from __future__ import annotations

import dataclasses

import pytest
from pydantic import ValidationError

from gaslayers.models import CASES, VARIANTS
from gaslayers.study.config import PRESET_NOTES, PRESETS, TRAINING, RunConfig, make_configs

# Another valid value of each field.
OTHERS = {
    "case": "original",
    "variant": "modern",
    "seed": 1,
    "iterations": 7,
    "batch_size": 5,
    "generator_steps": 1,
    "generator_base_channels": 8,
    "generator_upsampling": "pixel_shuffle",
    "generator_variant": "modern",
    "optimizer": "adam",
    "learning_rate": 2e-3,
    "loss_reduction": "mean",
    "penalty": "r1",
    "penalty_weight": 1.0,
    "switches": {"norm": "none"},
    "base_filters": 6,
    "packing": 2,
    "generator_ema": 0.99,
    "precision": "bf16-mixed",
    "accumulate": 2,
    "image_range": "symmetric",
    "shuffle": True,
    "log_every": 3,
    "sample_every": 4,
    "data_sha256": "1" * 64,
}


def test_config_defaults_to_protocol_of_2018():
    config = RunConfig(case="original", data_sha256="0" * 64)
    assert config.model_dump() == {
        "case": "original",
        "variant": "as_coded",
        "seed": 0,
        "iterations": 2000,
        "batch_size": 32,
        "generator_steps": 4,
        "generator_base_channels": 128,
        "generator_upsampling": "raw_reshape",
        "generator_variant": "as_coded",
        "optimizer": "rmsprop_tf",
        "learning_rate": 1e-3,
        "loss_reduction": "sum",
        "penalty": None,
        "penalty_weight": 5.0,
        "switches": {},
        "base_filters": None,
        "packing": 1,
        "generator_ema": None,
        "precision": "32-true",
        "accumulate": 1,
        "image_range": "unit",
        "shuffle": False,
        "log_every": 10,
        "sample_every": 200,
        "data_sha256": "0" * 64,
    }


def test_config_hash_is_that_of_earlier_records():
    # Changes with a field's name, order or default: then finished runs no longer count as such.
    config = RunConfig(case="original", data_sha256="0" * 64)
    assert config.config_hash == "7db87bddbfe5eeebb68399e261d9d14e2fcbf62edab1f2bb5694e8b300b3359b"


def test_config_hash_covers_every_field(make_config):
    assert OTHERS.keys() == RunConfig.model_fields.keys()
    with_it = {  # fields that go with others
        "penalty": {"variant": "modern", "loss_reduction": "mean"},
        "penalty_weight": {"variant": "modern", "loss_reduction": "mean", "penalty": "r1"},
    }
    hashes = {
        make_config(**with_it.get(name, {}), **{name: value}).config_hash
        for name, value in OTHERS.items()
    }
    assert len(hashes | {make_config().config_hash}) == 1 + len(OTHERS)


def test_config_of_a_switch_that_the_variant_has_is_that_of_the_variant(make_config):
    plain = make_config()
    same = make_config(switches={"head": "sigmoid", "groups": 1})
    assert same == plain
    assert same.config_hash == plain.config_hash
    assert same.discriminator_switches == VARIANTS["as_coded"]
    assert hash(same) == hash(plain)
    other = make_config(switches={"width_multiplier": 1, "norm": "none"})
    assert other.discriminator_switches == dataclasses.replace(
        VARIANTS["as_coded"], width_multiplier=1.0, norm="none"
    )
    # An int and a float, and another order, are the same choice.
    again = make_config(switches={"norm": "none", "width_multiplier": 1.0})
    assert again.config_hash == other.config_hash
    assert RunConfig.model_validate_json(other.model_dump_json()) == other


def test_config_hash_is_same_for_equal_configs(make_config):
    assert make_config(seed=3).config_hash == make_config(seed=3).config_hash


def test_config_survives_json(make_config):
    config = make_config(learning_rate=0.1 + 0.2)
    assert RunConfig.model_validate_json(config.model_dump_json()) == config


def test_config_is_frozen(make_config):
    with pytest.raises(ValidationError, match="frozen"):
        make_config().seed = 1


def test_config_name_is_case_variant_and_seed(make_config):
    assert make_config(seed=12).name == "inception_8-as_coded-seed12"


@pytest.mark.parametrize(
    ("choice", "match"),
    [
        (
            {"case": "inception"},
            "case\n.*must be one of original, .*, got 'inception'",
        ),
        ({"variant": "coded"}, "variant\n.*must be one of as_coded, .*, modern, got 'coded'"),
        ({"seed": -1}, "seed\n.*greater than or equal to 0"),
        ({"iterations": 0}, "iterations\n.*greater than or equal to 1"),
        ({"batch_size": 1}, "batch_size\n.*greater than or equal to 2"),
        ({"generator_steps": 0}, "generator_steps\n.*greater than or equal to 1"),
        ({"generator_base_channels": 6}, "generator_base_channels\n.*multiple of 4"),
        ({"learning_rate": 0.0}, "learning_rate\n.*greater than 0"),
        ({"learning_rate": float("nan")}, "learning_rate\n.*greater than 0"),
        ({"learning_rate": float("inf")}, "learning_rate\n.*finite, from 1e-30 to 1e\\+30"),
        ({"learning_rate": 1e31}, "learning_rate\n.*finite, from 1e-30 to 1e\\+30"),
        ({"learning_rate": 1e-31}, "learning_rate\n.*finite, from 1e-30 to 1e\\+30"),
        ({"penalty": "r1"}, "penalty\n.*goes with the variant modern alone"),
        (
            {"variant": "modern", "loss_reduction": "sum", "penalty": "r1"},
            "penalty\n.*goes with loss_reduction 'mean' alone",
        ),
        ({"variant": "modern", "penalty": "r2"}, "penalty\n.*should be 'r1'"),
        ({"penalty_weight": 2.0}, "penalty_weight\n.*goes with a penalty alone"),
        (
            {
                "variant": "modern",
                "loss_reduction": "mean",
                "penalty": "r1",
                "penalty_weight": 0.0,
            },
            "penalty_weight\n.*greater than 0",
        ),
        ({"switches": {"norms": "live"}}, "switches\n.*keys among norm, .*, not norms"),
        (
            {"switches": {"norm": "lively"}},
            "switches\n.*`norm` must be one of 'frozen', .*'lively'",
        ),
        ({"switches": {"inner_norm": 1}}, "switches\n.*`inner_norm` must be a bool, got 1"),
        ({"base_filters": 3}, "base_filters\n.*multiple of 2"),
        ({"base_filters": 0}, "base_filters\n.*greater than or equal to 2"),
        ({"packing": 3}, "\n.*should divide batch_size, 4"),
        ({"packing": 0}, "packing\n.*greater than or equal to 1"),
        ({"accumulate": 0}, "accumulate\n.*greater than or equal to 1"),
        ({"accumulate": 3}, "accumulate\n.*divide batch_size / packing, 4 / 1, in parts of >= 2"),
        ({"accumulate": 4}, "accumulate\n.*in parts of >= 2"),
        ({"accumulate": 2, "packing": 4}, "accumulate\n.*divide batch_size / packing, 4 / 4"),
        ({"precision": "16-mixed"}, "precision\n.*'32-true' or 'bf16-mixed'"),
        ({"generator_ema": 1.0}, "generator_ema\n.*less than 1"),
        ({"optimizer": "sgd"}, "optimizer\n.*'rmsprop_tf', 'rmsprop' or 'adam'"),
        ({"log_every": 0}, "log_every\n.*greater than or equal to 1"),
        ({"sample_every": 0}, "sample_every\n.*greater than or equal to 1"),
        ({"learning_rates": 1.0}, "learning_rates\n.*Extra inputs are not permitted"),
    ],
    ids=lambda choice: "-".join(choice) if isinstance(choice, dict) else "",
)
def test_config_refuses_what_cannot_run(make_config, choice, match):
    with pytest.raises(ValidationError, match=match):
        make_config(**choice)


@pytest.mark.parametrize(
    ("iterations", "every", "expected"),
    [(6, 2, [0, 2, 4, 5]), (7, 3, [0, 3, 6]), (3, 1, [0, 1, 2]), (4, 100, [0, 3]), (1, 1, [0])],
)
def test_config_logs_and_samples_every_so_often_and_at_the_end(
    make_config, iterations, every, expected
):
    config = make_config(iterations=iterations, log_every=every, sample_every=every)
    assert list(filter(config.is_logged, range(iterations))) == expected
    assert list(filter(config.is_sampled, range(iterations))) == expected


def make(preset, variants=("as_coded",), **options):
    return make_configs(
        preset,
        cases=CASES,
        variants=variants,
        seeds=(0, 1),
        data_sha256="0" * 64,
        options=options,
    )


def test_make_configs_goes_by_variant_then_seed_then_case():
    configs = make("quick", VARIANTS)
    assert [(c.variant, c.seed, c.case) for c in configs] == [
        (variant, seed, case) for variant in VARIANTS for seed in (0, 1) for case in CASES
    ]


def test_make_configs_lets_options_win_over_preset_and_preset_over_variant(monkeypatch):
    monkeypatch.setitem(TRAINING, "modern", {"learning_rate": 0.5, "iterations": 9, "log_every": 4})
    monkeypatch.setitem(PRESETS, "quick", {"iterations": 8, "log_every": 3})
    config = make("quick", ("modern",), log_every=2)[0]
    assert (config.learning_rate, config.iterations, config.log_every) == (0.5, 8, 2)


def test_faithful_preset_is_the_default_protocol():
    assert make("faithful")[0] == RunConfig(case=CASES[0], data_sha256="0" * 64)


@pytest.mark.parametrize("preset", ["quick", "narrow"])
def test_preset_that_departs_from_protocol_says_so(preset):
    config = make(preset)[0]
    assert config.generator_base_channels == 64
    assert "a quarter of the FLOPs" in PRESET_NOTES[preset]
    assert ("shortened" in PRESET_NOTES[preset]) == (config.iterations < 2000)


def test_every_preset_has_a_note():
    assert PRESET_NOTES.keys() == PRESETS.keys()
    assert PRESET_NOTES["faithful"] == ""


def test_modern_variant_trains_as_one_would_today():
    config = make("faithful", ("modern",))[0]
    assert (config.generator_steps, config.image_range, config.shuffle) == (1, "symmetric", True)
    assert (config.optimizer, config.loss_reduction) == ("adam", "mean")
