"""The compiled kernels, on the threads that PyTorch's operators run on."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import torch

from gaslayers.lean.native.compiling import DEFAULT, levels, library_path, missing_features
from gaslayers.lean.native.door import DTYPES, Misfit
from gaslayers.lean.native.structures import STRUCTURES

_NAMES = ("measure", "normalize", "normalize_backward", "pool", "unpool", "rectify_backward")
_OF_FLOATS = ("image_gradient", "image_stage")
_OF_ANY = ("pack_bits", "unpack_bits", "encode_places", "decode_places")

_NO_MEMORY, _NOT_EXACT = 1, 2
"""``enum answer`` of threads.h."""


class Kernels:
    """One of the libraries; each thread of PyTorch does its share of a call.

    Raises:
        OSError: If the library was not compiled, or from other sources than this file is of, or
            PyTorch has none of the name of Linux.
        AttributeError: If PyTorch does not run on OpenMP as GCC compiles it.
    """

    def __init__(self, library: Path) -> None:
        # Whatever OpenMP it links to is the right one. Threads of another would wait for their next
        # loop beside PyTorch's, and both would take the cores from each other.
        openmp = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        compiled = ctypes.CDLL(str(library))
        _check_structures(compiled, library.name)
        compiled.set_openmp(
            openmp.GOMP_parallel,
            openmp.omp_get_thread_num,
            openmp.omp_get_num_threads,
            openmp.GOMP_barrier,
        )
        self._functions: dict[tuple[str, torch.dtype | None], ctypes._NamedFuncPointer] = {
            (name, dtype): self._function(compiled, f"{name}_{real}")
            for dtype, real in DTYPES.items()
            for name in (_NAMES + _OF_FLOATS if dtype == torch.float32 else _NAMES)
        }
        for name in _OF_ANY:
            self._functions[name, None] = self._function(compiled, name)

    @staticmethod
    def _function(compiled: ctypes.CDLL, name: str) -> ctypes._NamedFuncPointer:
        function = compiled[name]
        function.argtypes = [ctypes.c_char_p, ctypes.c_uint]  # what is in these bytes stays there
        return function

    def run(self, name: str, dtype: torch.dtype | None, call: bytes) -> None:
        """Run the kernel of this name for this dtype; what ``call`` is, its C file says.

        One for any dtype has none.

        Raises:
            MemoryError: If there is none left for the kernel to work in.
            Misfit: If it would give other values than PyTorch's, and has done nothing.
        """
        answer = self._functions[name, dtype](call, torch.get_num_threads())
        if answer == _NO_MEMORY:
            raise MemoryError(f"{name}: no memory to work in.")
        if answer == _NOT_EXACT:
            raise Misfit(f"{name}: a weight is not finite")


def _check_structures(compiled: ctypes.CDLL, library: str) -> None:
    for name, structure in STRUCTURES.items():
        function = compiled[f"{name}_size"]
        function.restype = ctypes.c_int64
        size, own = function(), structure.size
        if size != own:
            raise OSError(f"{library}: struct {name} has {size} bytes there, and {own} here")


def _candidates() -> list[str]:
    """The levels up to the one that PyTorch takes the processor to have, the best one first."""
    names = list(levels())
    own = torch.backends.cpu.get_cpu_capability()
    return names[names.index(own) :] if own in names else [DEFAULT]


def _load(level: str) -> Kernels | str:
    """The kernels of a level, or why there are none."""
    missing = missing_features(level)
    if missing:
        return f"the processor has no {', '.join(missing)}"
    library = library_path(level)
    if not library.exists():
        return "not compiled"
    try:
        return Kernels(library)
    except (OSError, AttributeError) as error:
        return str(error)


class Loaded:
    """The kernels that run here, and of which level they are."""

    def __init__(self) -> None:
        self.kernels: Kernels | None = None
        self.level: str | None = None
        self.refused: dict[str, str] = {}
        """Why a better level does not run, by its name."""
        for level in _candidates():
            found = _load(level)
            if isinstance(found, Kernels):
                self.kernels, self.level = found, level
                break
            self.refused[level] = found


@functools.cache
def load() -> Loaded:
    """Load the best level that was compiled and that the processor has."""
    return Loaded()


def kernels() -> Kernels:
    """Those for this processor, as PyTorch takes it to be.

    Raises:
        OSError: There are none.
    """
    loaded = load()
    if loaded.kernels is None:
        raise OSError("; ".join(f"{level}: {why}" for level, why in loaded.refused.items()))
    return loaded.kernels
