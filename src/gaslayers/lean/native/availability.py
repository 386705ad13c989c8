"""Whether the kernels of our own can run."""

from __future__ import annotations

import functools
import importlib
import os
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


def _stay_off() -> None:
    # numba ends a process that calls OpenMP's threads from the far side of a fork.
    global _off
    _off = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_stay_off)


@functools.cache
def is_installed() -> bool:
    """Whether numba is there, with threads that several callers may use at once."""
    try:
        import numba

        importlib.import_module("numba.np.ufunc.omppool")  # OpenMP's threads, those of PyTorch
        importlib.import_module("gaslayers.lean.native._pool_kernels")
    # A numba that refuses this version of numpy; no folder to cache compiled code in.
    except (ImportError, RuntimeError):
        return False
    return numba.config.THREADING_LAYER != "workqueue"


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
