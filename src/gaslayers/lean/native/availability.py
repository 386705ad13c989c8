"""Whether the kernels of our own can run."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from gaslayers.lean.native.door import DTYPES
from gaslayers.lean.native.kernels import load

_KINDS = {Tensor, FakeTensor}

_off = False


@contextmanager
def switched_off() -> Iterator[None]:
    """Run PyTorch's operators within, as if there were no kernels; not for several threads."""
    global _off
    before, _off = _off, True
    try:
        yield
    finally:
        _off = before


@functools.cache
def are_compiled() -> bool:
    """Whether the kernels were compiled when the package was built, and load here.

    They run on CPUs under Linux, and give what PyTorch's operators give, in less time.
    """
    return load().kernels is not None


def run_on(x: Tensor) -> bool:
    """Whether kernels run on tensors of this kind here, whatever their dtype."""
    return (
        type(x) in _KINDS
        and x.is_cpu
        and not (_off or torch.compiler.is_compiling())
        and are_compiled()
    )


def takes(x: Tensor) -> bool:
    """Whether the kernels take tensors of this kind here."""
    return x.dtype in DTYPES and run_on(x)
