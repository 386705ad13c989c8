"""What tests of kernels run under: each compiled library, none, and several numbers of threads."""

from __future__ import annotations

from collections.abc import Iterator
from unittest import mock

import pytest
import torch

from gaslayers.lean.native import availability, kernels
from gaslayers.lean.native.compiling import library_path
from gaslayers.lean.native.kernels import Kernels
from tests.lean.native.needs import CAPABILITIES, needs_kernels

OPERATORS = "PyTorch's operators"


@pytest.fixture(params=[1, 2, 7])
def _threads(request) -> Iterator[None]:
    """More threads than there are rows or pixels, too."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=[*(pytest.param(c, marks=needs_kernels) for c in CAPABILITIES), OPERATORS])
def ran(request, monkeypatch) -> Iterator[set[str] | None]:
    """Each library that this processor can run: names of kernels that ran. None: none may."""
    if request.param == OPERATORS:
        monkeypatch.setattr(kernels, "load", lambda: mock.Mock(kernels=None))
        with availability.switched_off():
            yield None
        return
    real, names = Kernels(library_path(request.param)), set[str]()

    def run(name: str, dtype: torch.dtype | None, call: bytes) -> None:
        names.add(name)
        real.run(name, dtype, call)

    monkeypatch.setattr(kernels, "load", lambda: mock.Mock(kernels=mock.Mock(run=run)))
    yield names
