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
from gaslayers.losses import LSGANDiscriminatorLoss, LSGANGeneratorLoss

if TYPE_CHECKING:
    from gaslayers.accounting import count, saved_bytes

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
    "saved_bytes",
]


def __getattr__(name: str) -> Any:
    # Accounting loads fvcore and is looked up on first use, so that the layers need torch alone.
    if name in ("count", "saved_bytes"):
        from gaslayers import accounting

        return getattr(accounting, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
