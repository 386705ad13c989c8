"""A hash of what a run computes, as opposed to how its source is spelled."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from typing import Any

import torch
from lightning_fabric import Fabric
from torch.utils._python_dispatch import TorchDispatchMode

from gaslayers.study.config import RunConfig
from gaslayers.study.data import Digits
from gaslayers.study.training import Game, NonFiniteLossError


class _Listing(TorchDispatchMode):  # type: ignore[no-untyped-call]  # untyped in torch
    """Write down every operator with the shapes and constants that it was called with."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # likewise
        self.digest = hashlib.sha256()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        self.digest.update(f"{func}{_describe(args)}{_describe(kwargs)}\n".encode())
        return func(*args, **kwargs)


def _describe(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{value.dtype}{tuple(value.shape)}"
    if isinstance(value, tuple | list):
        return f"({','.join(map(_describe, value))})"
    if isinstance(value, dict):
        return f"({','.join(f'{key}={_describe(item)}' for key, item in sorted(value.items()))})"
    if isinstance(value, torch.UntypedStorage):  # whose content may be what was there before
        return f"{value.nbytes()} bytes"
    if isinstance(value, torch.Generator):
        return f"seed {value.initial_seed()}"
    return str(value)


@functools.cache
def code_hash(config: RunConfig) -> str:
    """SHA-256 of the operators of building both networks and of one iteration.

    Every operator counts, with its shapes and constants: layers, initial weights and their seeds,
    losses, learning rates, the order of the moves. Renaming a variable or moving a function
    changes nothing; touching a number does. The plain composition of the blocks is listed, on
    the CPU and on blank images, so that neither the device nor the lean paths matter, which are
    held equal to the plain ones by tests. Another release of PyTorch may list other operators:
    compare hashes within one.
    """
    total = config.batch_size
    blank = Digits(
        images=torch.zeros(total, 28, 28, dtype=torch.uint8),
        labels=torch.zeros(total, dtype=torch.int64),
        source="embedded",
        sha256=config.data_sha256,
    )
    with _Listing() as listing:
        game = Game(config, blank, Fabric(accelerator="cpu", devices=1), memory_efficient=False)
        # A run that diverges at once has a record as well; it is told by the operators until then.
        with contextlib.suppress(NonFiniteLossError):
            game.iterate(0)
    return listing.digest.hexdigest()
