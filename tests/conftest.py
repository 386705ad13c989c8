"""What every test starts from: few threads, no display, one seed, hypothesis without a clock."""

from __future__ import annotations

import os

import pytest
import torch
from hypothesis import settings

# A deadline would fail tests on a busy machine; the time of the suite is watched as a whole.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

os.environ.setdefault("MPLBACKEND", "Agg")
# Workers that run beside each other share the processors.
_workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
torch.set_num_threads(max(1, min(2, (os.cpu_count() or 1) // _workers)))


@pytest.fixture(autouse=True)
def _one_seed() -> None:
    """Start each test from the same random state, so that neither order nor selection matters."""
    torch.manual_seed(0)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs more CUDA devices than there are."""
    mark = item.get_closest_marker("cuda")
    needed = mark.kwargs.get("devices", 1) if mark else 0
    if torch.cuda.device_count() < needed:
        pytest.skip(f"needs {needed} CUDA device{'s' if needed > 1 else ''}")
