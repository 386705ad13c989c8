"""What tests of the compiled kernels need."""

from __future__ import annotations

import pytest

from gaslayers.lean.native.availability import are_compiled

needs_kernels = pytest.mark.skipif(
    not are_compiled(),
    reason="no kernels: they are compiled for Linux where the package is built beside a C compiler",
)
