"""Discriminator layers for GANs on limited memory, the LSGAN losses, and what they cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gaslayers.blocks import (
    ConvNormAct,
    DenseBlock,
    DepthwiseConvNormAct,
    DepthwiseInceptionBlock,
    DownBlock,
    InceptionBlock,
    TransitionBlock,
)
from gaslayers.lean.engine import frozen, lean_saving, make_lean, make_plain
from gaslayers.losses import LSGANDiscriminatorLoss, LSGANGeneratorLoss
from gaslayers.penalties import explain_penalty, gradient_penalty

if TYPE_CHECKING:
    from gaslayers.accounting import (
        count,
        explain_saving,
        max_batch_size,
        measure_peak,
        peak_memory,
        saved_bytes,
    )

__version__ = "0.1.0"

__all__ = [
    "ConvNormAct",
    "DenseBlock",
    "DepthwiseConvNormAct",
    "DepthwiseInceptionBlock",
    "DownBlock",
    "InceptionBlock",
    "LSGANDiscriminatorLoss",
    "LSGANGeneratorLoss",
    "TransitionBlock",
    "count",
    "explain_penalty",
    "explain_saving",
    "frozen",
    "gradient_penalty",
    "lean_saving",
    "make_lean",
    "make_plain",
    "max_batch_size",
    "measure_peak",
    "peak_memory",
    "saved_bytes",
]

# Accounting loads fvcore and is looked up on first use, so that the layers need torch alone.
_LAZY = ("count", "explain_saving", "max_batch_size", "measure_peak", "peak_memory", "saved_bytes")


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from gaslayers import accounting

        return getattr(accounting, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
