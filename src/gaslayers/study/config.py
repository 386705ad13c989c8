"""What one run is: every choice that changes its numbers, checked, hashable, written to records."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from gaslayers.models import CASES, VARIANTS, Switches
from gaslayers.study.rates import LARGEST_RATE, SMALLEST_RATE

SAMPLE_COUNT = 32

PENALTY_WEIGHT = 5.0
"""Half of the gamma of 10 with which Mescheder et al. (2018) train."""

SWITCHES = tuple(field.name for field in dataclasses.fields(Switches))
"""What may differ from a variant's discriminator."""

_LATER: dict[str, Any] = {
    "switches": {},
    "base_filters": None,
    "packing": 1,
    "generator_ema": None,
    "precision": "32-true",
    "accumulate": 1,
}
"""Fields that came after the first records, by the value with which a run is as before them."""


class RunConfig(BaseModel):
    """One run: a case, a variant, a seed, and how it is trained.

    The defaults are the 2018 source's (``variant="as_coded"``).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    case: str
    variant: str = "as_coded"
    seed: int = Field(default=0, ge=0)
    iterations: int = Field(default=2000, ge=1)
    batch_size: int = Field(default=32, ge=2)
    generator_steps: int = Field(default=4, ge=1, description="G steps to one D step")
    generator_base_channels: int = Field(default=128, ge=4, multiple_of=4)
    generator_upsampling: Literal["raw_reshape", "pixel_shuffle"] = "raw_reshape"
    generator_variant: Literal["as_coded", "modern"] = "as_coded"
    optimizer: Literal["rmsprop_tf", "rmsprop", "adam"] = "rmsprop_tf"
    learning_rate: float = Field(default=1e-3, gt=0)
    loss_reduction: Literal["sum", "mean"] = "sum"
    penalty: Literal["r1"] | None = Field(
        default=None, description="on the gradient of D's logits by real images"
    )
    penalty_weight: float = Field(
        default=PENALTY_WEIGHT, gt=0, description="half of the papers' gamma"
    )
    switches: dict[str, bool | int | float | str | None] = Field(
        default={}, description="deviations from the variant's discriminator, by name"
    )
    base_filters: int | None = Field(
        default=None, ge=2, multiple_of=2, description="of D; None: the case's own"
    )
    packing: int = Field(default=1, ge=1, description="images of a batch that D scores together")
    generator_ema: float | None = Field(
        default=None, gt=0, lt=1, description="decay of the mean of G's weights, which is sampled"
    )
    precision: Literal["32-true", "bf16-mixed"] = Field(
        default="32-true", description="in Lightning's words; mixed: of both networks' operators"
    )
    accumulate: int = Field(
        default=1, ge=1, description="parts that a batch goes through the networks in, to one step"
    )
    image_range: Literal["unit", "symmetric"] = "unit"
    shuffle: bool = False
    log_every: int = Field(default=10, ge=1)
    sample_every: int = Field(default=200, ge=1)
    data_sha256: str = Field(description="content of the digits that were trained on")

    @field_validator("case")
    @classmethod
    def _known_case(cls, value: str) -> str:
        if value not in CASES:
            raise ValueError(f"must be one of {', '.join(CASES)}, got {value!r}")
        return value

    @field_validator("variant")
    @classmethod
    def _known_variant(cls, value: str) -> str:
        if value not in VARIANTS:
            raise ValueError(f"must be one of {', '.join(VARIANTS)}, got {value!r}")
        return value

    @field_validator("learning_rate")
    @classmethod
    def _usable_rate(cls, value: float) -> float:
        if not SMALLEST_RATE <= value <= LARGEST_RATE:
            # Not a ValueError, in front of whose sentence pydantic would write that it is one.
            raise PydanticCustomError(
                "rate",
                "Input should be finite, from {smallest} to {largest}",
                {"smallest": SMALLEST_RATE, "largest": LARGEST_RATE},
            )
        return value

    @field_validator("penalty")
    @classmethod
    def _penalised_variant(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("variant", "modern") != "modern":
            # The other two are the original's training, which had none.
            raise PydanticCustomError("penalty", "Input goes with the variant modern alone")
        if value is not None and info.data.get("loss_reduction", "mean") != "mean":
            # A penalty is a mean over the batch; beside a sum it would shrink with the batch.
            raise PydanticCustomError("penalty", "Input goes with loss_reduction 'mean' alone")
        return value

    @field_validator("penalty_weight")
    @classmethod
    def _weight_of_something(cls, value: float, info: ValidationInfo) -> float:
        if not math.isfinite(value):
            raise PydanticCustomError("penalty", "Input should be finite")
        if value != PENALTY_WEIGHT and info.data.get("penalty", "") is None:
            raise PydanticCustomError("penalty", "Input goes with a penalty alone")
        return value

    @field_validator("switches")
    @classmethod
    def _known_switches(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        variant = info.data.get("variant")
        unknown = sorted(value.keys() - {*SWITCHES})
        if unknown:
            message = "Input should have keys among {known}, not {unknown}"
            known = {"known": ", ".join(SWITCHES), "unknown": ", ".join(unknown)}
            raise PydanticCustomError("switches", message, known)
        if variant is None:
            return value
        try:
            switches = dataclasses.replace(VARIANTS[variant], **value)
        except (TypeError, ValueError) as error:
            raise PydanticCustomError("switches", "{error}", {"error": str(error)}) from error
        # One way to write a run: what the variant has already is no deviation.
        own = dataclasses.asdict(VARIANTS[variant])
        changed = dataclasses.asdict(switches)
        changed["width_multiplier"] = float(changed["width_multiplier"])
        return {name: changed[name] for name in SWITCHES if changed[name] != own[name]}

    @field_validator("accumulate")
    @classmethod
    def _whole_parts(cls, value: int, info: ValidationInfo) -> int:
        size, packing = info.data.get("batch_size"), info.data.get("packing")
        # Parts of one image have no statistics.
        if size and packing and (size % (value * packing) or size // value < 2):
            raise PydanticCustomError(
                "accumulate",
                "Input should divide batch_size / packing, {size} / {packing}, in parts of >= 2",
                {"size": size, "packing": packing},
            )
        return value

    @model_validator(mode="after")
    def _divisible_batch(self) -> RunConfig:
        if self.batch_size % self.packing:
            raise PydanticCustomError(
                "packing",
                "Input should divide batch_size, {size}",
                {"size": self.batch_size},
            )
        return self

    def __hash__(self) -> int:
        """By content, which pydantic leaves out for fields that are dictionaries."""
        return hash(self.model_dump_json())

    @property
    def discriminator_switches(self) -> Switches:
        """Those of the variant, with this run's deviations."""
        switches: dict[str, Any] = self.switches  # checked when the configuration was made
        return dataclasses.replace(VARIANTS[self.variant], **switches)

    @property
    def name(self) -> str:
        """The name of the run's folder, which tells its case, variant, penalty and seed."""
        penalty = "" if self.penalty is None else f"-{self.penalty}"
        return f"{self.case}-{self.variant}{penalty}-seed{self.seed}"

    @property
    def config_hash(self) -> str:
        """SHA-256 of the canonical JSON of every field that has a say in the run."""
        unused = {name for name, value in _LATER.items() if getattr(self, name) == value}
        if self.penalty is None:
            unused |= {"penalty", "penalty_weight"}
        return hashlib.sha256(self.model_dump_json(exclude=unused).encode()).hexdigest()

    def is_logged(self, iteration: int) -> bool:
        """Whether losses are recorded after this iteration."""
        return iteration % self.log_every == 0 or iteration == self.iterations - 1

    def is_sampled(self, iteration: int) -> bool:
        """Whether a grid of samples is saved after this iteration."""
        return iteration % self.sample_every == 0 or iteration == self.iterations - 1


# How a variant is trained, where it departs from the source.
TRAINING: dict[str, dict[str, Any]] = {
    "as_coded": {},
    "as_described": {},
    "modern": {
        "generator_steps": 1,
        "generator_upsampling": "pixel_shuffle",
        "generator_variant": "modern",
        "optimizer": "adam",
        "learning_rate": 2e-4,
        "loss_reduction": "mean",
        "image_range": "symmetric",
        "shuffle": True,
    },
}

PRESETS: dict[str, dict[str, Any]] = {
    # The 2018 protocol.
    "faithful": {"iterations": 2000, "log_every": 10, "sample_every": 200},
    # The 2018 protocol with a generator at a quarter of the FLOPs.
    "narrow": {
        "iterations": 2000,
        "log_every": 10,
        "sample_every": 200,
        "generator_base_channels": 64,
    },
    # Minutes on two cores: short, and with the narrow generator.
    "quick": {
        "iterations": 50,
        "log_every": 5,
        "sample_every": 10,
        "generator_base_channels": 64,
    },
}

PRESET_NOTES: dict[str, str] = {
    "faithful": "",
    "narrow": "narrow: generator at a quarter of the FLOPs",
    "quick": "shortened: few iterations, generator at a quarter of the FLOPs",
}
"""What every picture says of a preset that is not the 2018 protocol."""


def make_configs(
    preset: str,
    *,
    cases: Sequence[str],
    variants: Sequence[str],
    seeds: Sequence[int],
    data_sha256: str,
    options: Mapping[str, Any],
) -> list[RunConfig]:
    """Every run of a study, by variant, seed and case.

    Later sources win: the source's defaults, the variant's training, the preset, the options.
    """
    return [
        RunConfig(
            **{
                **TRAINING.get(variant, {}),  # an unknown one is refused below
                **PRESETS[preset],
                **options,
                "case": case,
                "variant": variant,
                "seed": seed,
                "data_sha256": data_sha256,
            }
        )
        for variant in variants
        for seed in seeds
        for case in cases
    ]
