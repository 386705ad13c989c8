"""The six-case study: data, training, records, and the pages drawn from them."""

from gaslayers.study.case import run_case
from gaslayers.study.config import PRESETS, RunConfig, make_configs
from gaslayers.study.data import Digits, load_digits
from gaslayers.study.records import CurvePoint, Record
from gaslayers.study.replays import Replay, StaleRecordError, replay
from gaslayers.study.report import (
    Picture,
    Run,
    draw_run_pictures,
    draw_study_pictures,
    read_run,
    write_report,
)
from gaslayers.study.sweep import sweep

__all__ = [
    "PRESETS",
    "CurvePoint",
    "Digits",
    "Picture",
    "Record",
    "Replay",
    "Run",
    "RunConfig",
    "StaleRecordError",
    "draw_run_pictures",
    "draw_study_pictures",
    "load_digits",
    "make_configs",
    "read_run",
    "replay",
    "run_case",
    "sweep",
    "write_report",
]
