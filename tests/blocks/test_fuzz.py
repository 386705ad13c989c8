"""A share of the fuzzed calls; ``python -m tests.blocks.fuzz`` makes as many as one likes."""

from __future__ import annotations

import os
import warnings

import pytest

from tests.blocks.fuzz import Fuzzer

SEEDS = range(4)
CALLS = int(os.environ.get("GASLAYERS_FUZZ_CALLS", "1200")) // len(SEEDS)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_call_ends_but_in_a_result_or_an_error_that_names_its_cause(seed: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's, about devices and dtypes that are tried
        ends = Fuzzer(seed).run(CALLS)
    assert sum(ends.values()) >= CALLS
    # A fuzzer that meets errors alone, or none, shows nothing.
    for end in ("constructor: built", "forward: a result", "constructor: TypeError"):
        assert ends[end] > CALLS / 20
