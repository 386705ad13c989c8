"""The six-case study: data, training, records, and the pages drawn from them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gaslayers.study.case import run_case
    from gaslayers.study.config import PRESETS, RunConfig, make_configs
    from gaslayers.study.data import Digits, load_digits
    from gaslayers.study.lightning_watch import lightning_callback
    from gaslayers.study.records import (
        CurvePoint,
        Machine,
        MemoryPrediction,
        MemoryReading,
        Record,
        RunFolder,
    )
    from gaslayers.study.replays import Replay, StaleRecordError, replay
    from gaslayers.study.report import (
        Picture,
        Run,
        draw_run_pictures,
        draw_study_pictures,
        read_run,
        write_report,
    )
    from gaslayers.study.watch import Watch

__all__ = [
    "PRESETS",
    "CurvePoint",
    "Digits",
    "Machine",
    "MemoryPrediction",
    "MemoryReading",
    "Picture",
    "Record",
    "Replay",
    "Run",
    "RunConfig",
    "RunFolder",
    "StaleRecordError",
    "Watch",
    "draw_run_pictures",
    "draw_study_pictures",
    "lightning_callback",
    "load_digits",
    "make_configs",
    "read_run",
    "replay",
    "run_case",
    "write_report",
]

_MODULES = {
    "case": ("run_case",),
    "config": ("PRESETS", "RunConfig", "make_configs"),
    "data": ("Digits", "load_digits"),
    "lightning_watch": ("lightning_callback",),
    "records": (
        "CurvePoint",
        "Machine",
        "MemoryPrediction",
        "MemoryReading",
        "Record",
        "RunFolder",
    ),
    "replays": ("Replay", "StaleRecordError", "replay"),
    "report": (
        "Picture",
        "Run",
        "draw_run_pictures",
        "draw_study_pictures",
        "read_run",
        "write_report",
    ),
    "watch": ("Watch",),
}


def __getattr__(name: str) -> Any:
    # Looked up on first use, so that reading the digits loads no torchvision and no matplotlib.
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
