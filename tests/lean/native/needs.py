"""What tests of the compiled kernels need."""

from __future__ import annotations

import platform

import pytest
import torch

from gaslayers.lean.native.availability import are_compiled

needs_kernels = pytest.mark.skipif(
    not are_compiled(),
    reason="no kernels: they are compiled for Linux where the package is built beside a C compiler",
)
"""The compiled kernels."""

needs_norm_kernels = [
    needs_kernels,
    pytest.mark.skipif(
        platform.machine() != "x86_64",
        reason="the norm's kernels round as PyTorch's do on x86-64, and elsewhere may not run",
    ),
]
"""Those of batch norms."""

HERE = torch.backends.cpu.get_cpu_capability()

rounds_alike = pytest.mark.skipif(
    HERE not in ("AVX2", "AVX512"), reason="PyTorch's kernels are others without AVX2"
)
"""Where convolutions of both kinds multiply and add in one rounding."""

_NAMES = ["DEFAULT", "AVX2", "AVX512"]
CAPABILITIES = _NAMES[: _NAMES.index(HERE) + 1] if HERE in _NAMES else [HERE]
"""Those whose library this processor can run."""
