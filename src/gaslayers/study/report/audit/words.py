"""How the audit's pictures and tables name metrics and settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gaslayers.study.audit import Setting

_FEW = 2
"""Factors that a label can spell out."""


def choices_of(setting: Setting) -> dict[str, Any]:
    """Everything that the setting's runs were made with, but case and seed."""
    config = setting.first.config
    fields = config.model_dump(exclude={"switches", "seed", "case"})
    return {**vars(config.discriminator_switches), **fields}


def factors_of(settings: Sequence[Setting]) -> dict[str, list[Any]]:
    """What differs among settings, apart from their case, and in which values."""
    choices = [choices_of(setting) for setting in settings]
    found: dict[str, list[Any]] = {}
    for name in choices[0]:
        values = list(dict.fromkeys(choice[name] for choice in choices))
        if len(values) > 1:
            found[name] = values
    return found


def spell(value: Any) -> str:
    """A value as files of grids have it."""
    return str(value).lower()


def label_settings(settings: Sequence[Setting]) -> tuple[list[str], str]:
    """A short name for each setting of a family, and a line that explains the names.

    The line is empty where the names explain themselves.
    """
    factors = list(factors_of(settings))
    cases = {setting.case for setting in settings}
    labels = []
    for setting in settings:
        choices = choices_of(setting)
        parts = [setting.case] if len(cases) > 1 or not factors else []
        if len(factors) > _FEW:
            parts.append(" / ".join(spell(choices[name]) for name in factors))
        else:
            parts += [f"{name.replace('_', ' ')} {spell(choices[name])}" for name in factors]
        labels.append(", ".join(parts))
    is_terse = len(factors) > _FEW
    legend = " / ".join(name.replace("_", " ") for name in factors) if is_terse else ""
    return labels, legend
