"""What sets the three variants of the six discriminators apart, one named switch a deviation."""

from __future__ import annotations

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Switches:
    """Where the 2018 source, its text and today's practice differ; each field is one difference.

    Args:
        norm: Between block and activation from the second stage on. ``"frozen"``: the source's
            norm, whose training flag was never set, so it scales by constants near 1;
            ``"live"``: batch norm, as was meant; ``"none"``.
        bottleneck: Whether the 1x1 in front of each larger kernel takes part. In the source its
            output was overwritten (dead code), in the drawing it takes part.
        width_multiplier: How many times wider than its 1x1 a separable branch comes out; 4 in
            the source, 1 in the text.
        inner_norm: Whether the separable convolutions carry ReLU and a live batch norm after
            both of their steps, as in the source.
        dense_blocks: 3 in the source, 4 in the text.
        depthwise_dense_layers: Whether the dense blocks' convolutions are depthwise too; in the
            source only the stem's is.
        transition_channels: What a transition narrows to; 4 in the source. None: half.
        activation: ``"relu"`` or ``"leaky_relu"`` (slope 0.2).
        head: ``"sigmoid"``, the source's, whose saturation is an absorbing state, or
            ``"linear"``, the LSGAN paper's.
        init: ``"gas2018"`` (truncated normal of std 0.02) or ``"he"``.
    """

    norm: Literal["frozen", "live", "none"]
    bottleneck: bool
    width_multiplier: float
    inner_norm: bool
    dense_blocks: int
    depthwise_dense_layers: bool
    transition_channels: int | None
    activation: Literal["relu", "leaky_relu"]
    head: Literal["sigmoid", "linear"]
    init: Literal["gas2018", "he"]


VARIANTS: dict[str, Switches] = {
    # The source as it ran, faults included.
    "as_coded": Switches(
        norm="frozen",
        bottleneck=False,
        width_multiplier=4.0,
        inner_norm=True,
        dense_blocks=3,
        depthwise_dense_layers=False,
        transition_channels=4,
        activation="relu",
        head="sigmoid",
        init="gas2018",
    ),
    # Its text and its drawing of the block; what they leave open stays as in the source.
    "as_described": Switches(
        norm="live",
        bottleneck=True,
        width_multiplier=1.0,
        inner_norm=True,
        dense_blocks=4,
        depthwise_dense_layers=True,
        transition_channels=4,
        activation="relu",
        head="linear",
        init="gas2018",
    ),
    # What one would train today at the same sizes.
    "modern": Switches(
        norm="live",
        bottleneck=True,
        width_multiplier=1.0,
        inner_norm=False,
        dense_blocks=4,
        depthwise_dense_layers=True,
        transition_channels=None,
        activation="leaky_relu",
        head="linear",
        init="he",
    ),
}
"""The switches of each variant; `dataclasses.replace` flips one of them."""
