"""Many drawn networks against themselves without the engine.

python -m tests.lean.engine.drawn --count 10000 --seed 0
"""

from __future__ import annotations

import argparse
import sys
import time

import hypothesis
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gaslayers.lean.engine import operation
from tests.lean.engine.networks import Drawn, networks
from tests.lean.engine.test_engine import CHEAP_READS, assert_equal


def main() -> int:
    """Draw so many, and say how many networks and outcomes there were."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    operation.SMALLEST_BYTES = 64
    start, drawn = time.perf_counter(), set[Drawn]()

    @hypothesis.seed(options.seed)
    @settings(
        max_examples=options.count,
        database=None,
        deadline=None,
        derandomize=False,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        make=networks(),
        order=st.sampled_from([1, 2]),
        layout=st.sampled_from([torch.contiguous_format, torch.channels_last]),
        recompute=st.sampled_from(["cheap", "convolutions"]),
        cheap_reads=CHEAP_READS,
    )
    def compare(
        make: Drawn, order: int, layout: torch.memory_format, recompute: str, cheap_reads: int
    ) -> None:
        drawn.add(make)
        assert_equal(make, order=order, layout=layout, recompute=recompute, cheap_reads=cheap_reads)

    compare()
    seconds = time.perf_counter() - start
    sys.stdout.write(
        f"{len(drawn)} networks in {options.count} draws are as without the engine; "
        f"seed {options.seed}, {seconds:.0f} s\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
