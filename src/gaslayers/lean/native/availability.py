"""Whether the kernels of our own can run."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

_off = False


@contextmanager
def switched_off() -> Iterator[None]:
    """Run PyTorch's operators within, as if numba were not installed; not for several threads."""
    global _off
    before, _off = _off, True
    try:
        yield
    finally:
        _off = before


@functools.cache
def is_installed() -> bool:
    """Whether numba is there and can compile for the threads of PyTorch."""
    try:
        importlib.import_module("gaslayers.lean.native._pool_kernels")
    # In turn: no numba, or one that refuses this version of numpy; a system other than Linux;
    # another OpenMP; no folder to keep compiled code in.
    except (ImportError, OSError, AttributeError, RuntimeError):
        return False
    return True


def takes(x: Tensor) -> bool:
    """Whether the kernels take tensors of this kind here."""
    return (
        not _off
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and type(x) in (Tensor, FakeTensor)
        and not torch.compiler.is_compiling()
        and is_installed()
    )
