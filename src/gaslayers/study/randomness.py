"""Named sources of randomness, all derived from one seed.

Each draw is a function of (seed, name, step) alone and of nothing drawn before: a run that
continues from a checkpoint, logs more often or skips a picture draws the same numbers.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor

STREAMS = (
    "init of G",
    "init of D",
    "data order",
    "training z",
    "evaluation data",
    "evaluation z",
    "sample z",
    # Of the metrics.
    "metric z",
    "real split",
    "stacked digits",
    "generated subset",
)


def derive_seed(seed: int, stream: str, step: int = 0) -> int:
    """Hash (seed, stream, step) to 63 bits."""
    if stream not in STREAMS:
        raise ValueError(f"derive_seed: `stream` must be one of {STREAMS}, got {stream!r}.")
    digest = hashlib.sha256(f"{seed}/{stream}/{step}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def make_generator(seed: int, stream: str, step: int = 0) -> torch.Generator:
    """A CPU generator for one draw; tensors are drawn on the CPU so that every device agrees."""
    return torch.Generator().manual_seed(derive_seed(seed, stream, step))


def draw_noise(seed: int, stream: str, step: int, *, batch_size: int, latent_size: int) -> Tensor:
    """Standard normal noise of shape (batch_size, latent_size)."""
    generator = make_generator(seed, stream, step)
    return torch.randn(batch_size, latent_size, generator=generator)


@contextlib.contextmanager
def seeded_init(seed: int, stream: str) -> Iterator[None]:
    """Let layers draw their weights from a stream; global generators are left as they were.

    For layers on the CPU: `torch.manual_seed` would seed the generators of devices, too.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(seed, stream))
        yield


@contextlib.contextmanager
def seeded_everywhere(seed: int) -> Iterator[None]:
    """Seed PyTorch's global generators, those of devices included, and put all of them back.

    A device that nothing has used yet is left alone: to seed it would leave a trace.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[]))
        torch.default_generator.manual_seed(seed)
        for kind in (torch.cuda, torch.xpu):
            if kind.is_initialized():
                stack.callback(kind.set_rng_state_all, kind.get_rng_state_all())
                kind.manual_seed_all(seed)
        if torch.backends.mps.is_available():
            stack.callback(torch.mps.set_rng_state, torch.mps.get_rng_state())
            torch.mps.manual_seed(seed)
        yield
