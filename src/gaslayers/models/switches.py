"""What sets the three variants of the six discriminators apart, one named switch a deviation."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args, get_type_hints

from gaslayers._checks import check_bool, check_choice, check_float, check_int


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
        inner_norm: Whether the separable convolutions have a live batch norm after both of
            their steps, as in the source.
        inner_activation: Whether they have a ReLU there, before the norm.
        dense_blocks: 3 in the source, 4 in the text.
        depthwise_dense_layers: Whether the dense blocks' convolutions are depthwise too; in the
            source only the stem's is.
        transition_channels: What a transition narrows to; 4 in the source. None: half.
        activation: ``"relu"`` or ``"leaky_relu"`` (slope 0.2).
        head: ``"sigmoid"``, the source's, whose gradient is zero where it rounds to 0 or 1,
            or ``"linear"``, the LSGAN paper's.
        init: ``"gas2018"`` (truncated normal of std 0.02) or ``"he"``.
        groups: Of the plain case's convolutions from the second stage on; 1 in the source. As many
            as channels would make them depthwise. The other cases have 1.
        spectral_norm: Whether the weight of every convolution and of the last linear layer is
            divided by its largest singular value (Miyato et al., 2018). A depthwise convolution is
            a matrix per channel, so each of its kernels is divided by its own.

    Raises:
        TypeError: A field of the wrong kind.
        ValueError: An unknown choice, a multiplier that is not positive, a count below 1.
    """

    norm: Literal["frozen", "live", "none"]
    bottleneck: bool
    width_multiplier: float
    inner_norm: bool
    inner_activation: bool
    dense_blocks: int
    depthwise_dense_layers: bool
    transition_channels: int | None
    activation: Literal["relu", "leaky_relu"]
    head: Literal["sigmoid", "linear"]
    init: Literal["gas2018", "he"]
    groups: int
    spectral_norm: bool

    def __post_init__(self) -> None:
        """Refuse a misspelt choice here, where its name is known."""
        owner = type(self).__name__
        kinds = get_type_hints(type(self))
        for field in ("norm", "activation", "head", "init"):
            check_choice(owner, field, getattr(self, field), get_args(kinds[field]))
        for field in (
            "bottleneck",
            "inner_norm",
            "inner_activation",
            "depthwise_dense_layers",
            "spectral_norm",
        ):
            check_bool(owner, field, getattr(self, field))
        check_float(owner, "width_multiplier", self.width_multiplier, above=0.0, maximum=2**31)
        check_int(owner, "dense_blocks", self.dense_blocks)
        check_int(owner, "groups", self.groups)
        if self.transition_channels is not None:
            check_int(owner, "transition_channels", self.transition_channels)


VARIANTS: dict[str, Switches] = {
    # The source as it ran, faults included.
    "as_coded": Switches(
        norm="frozen",
        bottleneck=False,
        width_multiplier=4.0,
        inner_norm=True,
        inner_activation=True,
        dense_blocks=3,
        depthwise_dense_layers=False,
        transition_channels=4,
        activation="relu",
        head="sigmoid",
        init="gas2018",
        groups=1,
        spectral_norm=False,
    ),
    # Its text and its drawing of the block; what they leave open stays as in the source.
    "as_described": Switches(
        norm="live",
        bottleneck=True,
        width_multiplier=1.0,
        inner_norm=True,
        inner_activation=True,
        dense_blocks=4,
        depthwise_dense_layers=True,
        transition_channels=4,
        activation="relu",
        head="linear",
        init="gas2018",
        groups=1,
        spectral_norm=False,
    ),
    # What one would train today at the same sizes.
    "modern": Switches(
        norm="live",
        bottleneck=True,
        width_multiplier=1.0,
        inner_norm=False,
        inner_activation=False,
        dense_blocks=4,
        depthwise_dense_layers=True,
        transition_channels=None,
        activation="leaky_relu",
        head="linear",
        init="he",
        groups=1,
        spectral_norm=False,
    ),
}
"""The switches of each variant; `dataclasses.replace` flips one of them."""
