"""The compiled kernels, on the threads that PyTorch's operators run on."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import torch

from gaslayers.lean.native.compiling import library_path

DTYPES = {torch.float32: "float", torch.float64: "double"}
"""What there are kernels for, and how C names it."""

_NAMES = ("measure", "normalize", "normalize_backward", "pool", "unpool")
_OF_FLOATS = ("image_gradient", "image_stage")


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
        compiled = ctypes.CDLL(str(library))
        compiled.set_openmp(
            openmp.GOMP_parallel,
            openmp.omp_get_thread_num,
            openmp.omp_get_num_threads,
            openmp.GOMP_barrier,
        )
        self._functions = {
            (name, dtype): self._function(compiled, f"{name}_{real}")
            for dtype, real in DTYPES.items()
            for name in (_NAMES + _OF_FLOATS if dtype == torch.float32 else _NAMES)
        }

    @staticmethod
    def _function(compiled: ctypes.CDLL, name: str) -> ctypes._NamedFuncPointer:
        function = compiled[name]
        function.argtypes = [ctypes.c_void_p, ctypes.c_uint]
        return function

    def run(self, name: str, dtype: torch.dtype, call: ctypes.Structure) -> None:
        """Run the kernel of this name for this dtype; what ``call`` is, its C file says.

        Raises:
            MemoryError: If there is none left for the kernel to work in.
        """
        if self._functions[name, dtype](ctypes.addressof(call), torch.get_num_threads()):
            raise MemoryError(f"{name}: no memory to work in.")


@functools.cache
def kernels() -> Kernels:
    """Those for this processor, as PyTorch takes it to be; else those for any of its kind."""
    own = library_path(torch.backends.cpu.get_cpu_capability())
    return Kernels(own if own.exists() else library_path("DEFAULT"))
