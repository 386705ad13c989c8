"""The compiled kernels, on the threads that PyTorch's operators run on."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import torch
from torch import Tensor

from gaslayers.lean.native.compiling import library_path


class _Call(ctypes.Structure):
    """``struct call`` of pool.c."""

    _fields_ = (
        *[(name, ctypes.c_void_p) for name in ("whole", "small", "codes")],
        *[
            (name, ctypes.c_int64)
            for name in ("count", "channels", "height", "width", "rows", "columns")
        ],
        ("slope", ctypes.c_double),
    )


class Kernels:
    """One of the libraries; each thread of PyTorch does its share of a call.

    Raises:
        OSError: If the library was not compiled, or PyTorch has none of the name of Linux.
        AttributeError: If PyTorch does not run on OpenMP as GCC compiles it.
    """

    def __init__(self, library: Path) -> None:
        # Whatever OpenMP it links to is the right one. Threads of another would wait for their next
        # loop beside PyTorch's, and both would take the cores from each other.
        openmp = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        self._run_parallel = openmp.GOMP_parallel
        self._run_parallel.restype = None
        self._run_parallel.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_uint] * 2
        self._library = ctypes.CDLL(str(library))
        self._library.set_openmp(openmp.omp_get_thread_num, openmp.omp_get_num_threads)
        self._addresses = {
            (name, dtype): ctypes.cast(self._library[f"{name}_{real}"], ctypes.c_void_p)
            for name in ("pool", "unpool")
            for dtype, real in ((torch.float32, "float"), (torch.float64, "double"))
        }

    def run(self, name: str, whole: Tensor, small: Tensor, codes: Tensor, slope: float) -> None:
        """Run a kernel on three maps in one memory format, of which it writes some."""
        count, channels, height, width = whole.shape
        if not whole.is_contiguous(memory_format=torch.channels_last):
            count, channels = count * channels, 1
        addresses = whole.data_ptr(), small.data_ptr(), codes.data_ptr()
        call = _Call(*addresses, count, channels, height, width, *small.shape[2:], slope)
        address = self._addresses[name, whole.dtype]
        self._run_parallel(address, ctypes.addressof(call), torch.get_num_threads(), 0)


@functools.cache
def kernels() -> Kernels:
    """Those for this processor, as PyTorch takes it to be; else those for any of its kind."""
    own = library_path(torch.backends.cpu.get_cpu_capability())
    return Kernels(own if own.exists() else library_path("DEFAULT"))
