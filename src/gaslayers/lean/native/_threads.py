"""Loops that numba compiles, on the threads that PyTorch's operators run on.

Threads of numba's own would wait for the next loop beside PyTorch's, and both would take the cores
from each other. Importing this fails where PyTorch does not run on OpenMP as GCC compiles it, which
is everywhere but on Linux.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import llvmlite.binding
import numba
import numpy as np
import torch
from numba import types
from numba.extending import intrinsic

# What numba compiles for each dtype has no types of its own.
# mypy: disable-error-code="no-untyped-def"

# Whatever library it links to is the one that is asked for OpenMP's functions.
_openmp = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))


def _external(name: str) -> Any:
    """One of OpenMP's functions without arguments, for compiled code."""
    symbol = f"gaslayers_{name}"
    address = ctypes.cast(getattr(_openmp, name), ctypes.c_void_p).value
    llvmlite.binding.add_symbol(symbol, address)
    return types.ExternalFunction(symbol, types.int32())


_thread_number = _external("omp_get_thread_num")
_thread_count = _external("omp_get_num_threads")

_run_parallel = _openmp.GOMP_parallel
_run_parallel.restype = None
_run_parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]


_REAL_TYPES = {
    torch.float32: (types.float32, np.float32),
    torch.float64: (types.float64, np.float64),
}
_owners: list[Any] = []  # of the code at addresses that were handed out


@numba.njit
def own_share(count):
    """The first of ``count`` rounds that are this thread's, and the one after its last.

    A change here does not make numba compile a loop anew that it has in its cache.
    """
    number, threads = types.int64(_thread_number()), types.int64(_thread_count())
    return count * number // threads, count * (number + 1) // threads


@intrinsic
def to_pointer(_typing_context, _address):
    """An address as a pointer."""

    def generate(context, builder, _signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.int64), generate


def real_types(dtype: torch.dtype) -> tuple[Any, Any]:
    """A dtype as numba's own type, and as an array's."""
    return _REAL_TYPES[dtype]


def compile_call(function: Any, call: type[ctypes.Structure]) -> int:
    """The address of a C function of a pointer to such a structure, for `run`."""
    record = numba.from_dtype(np.dtype(call))
    compiled = numba.cfunc(types.void(types.CPointer(record)), cache=True)(function)
    _owners.append(compiled)
    address: int = compiled.address
    return address


def run(function: int, arguments: ctypes.Structure) -> None:
    """Call the function at this address on each thread, with a pointer to the arguments."""
    _run_parallel(function, ctypes.addressof(arguments), torch.get_num_threads(), 0)
