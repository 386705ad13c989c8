"""The six discriminators of GAS (2018), in three variants each."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import nn

from gaslayers._checks import bad_type, bad_value, check_choice, check_int, check_memory_efficient
from gaslayers._typing import ActivationLayer, BlockLayer, MemoryEfficient, NormLayer
from gaslayers.blocks import (
    ConvNormAct,
    DenseBlock,
    DepthwiseConvNormAct,
    DepthwiseInceptionBlock,
    DownBlock,
    InceptionBlock,
    TransitionBlock,
)
from gaslayers.blocks._construction import Device, placed
from gaslayers.models.discriminator import LARGEST_IMAGE, Discriminator
from gaslayers.models.initialisation import SCHEMES
from gaslayers.models.norms import FrozenNorm2d, OffsetBatchNorm2d
from gaslayers.models.spectra import normalise_spectra
from gaslayers.models.switches import VARIANTS, Switches

NORMS: dict[str, NormLayer | None] = {
    "frozen": FrozenNorm2d,
    "live": nn.BatchNorm2d,
    "none": None,
}
ACTIVATIONS: dict[str, ActivationLayer] = {
    "relu": nn.ReLU,
    "leaky_relu": functools.partial(nn.LeakyReLU, 0.2),
}
# TensorFlow's SAME pooling keeps a last odd row or column.
SAME_MAX_POOL = functools.partial(nn.MaxPool2d, ceil_mode=True)


def _inception(switches: Switches, *, memory_efficient: MemoryEfficient) -> BlockLayer:
    return functools.partial(
        InceptionBlock, bottleneck=switches.bottleneck, memory_efficient=memory_efficient
    )


def _depthwise_inception(
    switches: Switches, *, memory_efficient: MemoryEfficient, width_multiplier: float = 1.0
) -> BlockLayer:
    block = functools.partial(
        DepthwiseInceptionBlock,
        width_multiplier=width_multiplier,
        memory_efficient=memory_efficient,
    )
    if not (switches.inner_norm or switches.inner_activation):
        return block
    norm_layer = OffsetBatchNorm2d if switches.inner_norm else None
    activation_layer = nn.ReLU if switches.inner_activation else None
    separable = functools.partial(
        DepthwiseConvNormAct,
        bias=True,
        norm_layer=norm_layer,
        activation_layer=activation_layer,
        inner_norm_layer=norm_layer,
        inner_activation_layer=activation_layer,
        order="act_norm",
        memory_efficient=memory_efficient,
    )
    return functools.partial(block, separable_layer=separable)


def _four_stages(
    in_channels: int,
    widths: tuple[int, ...],
    block: BlockLayer,
    switches: Switches,
    *,
    memory_efficient: MemoryEfficient,
    first_block: BlockLayer | None = None,
) -> list[nn.Module]:
    """Stages of block, norm (not in the first), activation and 2x2 max pooling."""
    stages: list[nn.Module] = []
    for index, width in enumerate(widths):
        stages.append(
            DownBlock(
                in_channels,
                width,
                block=block if index > 0 or first_block is None else first_block,
                norm_layer=NORMS[switches.norm] if index > 0 else None,
                activation_layer=ACTIVATIONS[switches.activation],
                pool_layer=SAME_MAX_POOL,
                memory_efficient=memory_efficient,
            )
        )
        in_channels = width
    return stages


def _plain(
    in_channels: int, filters: int, switches: Switches, *, memory_efficient: MemoryEfficient
) -> list[nn.Module]:
    block = functools.partial(ConvNormAct, memory_efficient=bool(memory_efficient))
    return _four_stages(
        in_channels,
        (filters, 2 * filters, 4 * filters, 8 * filters),
        functools.partial(block, groups=switches.groups),
        switches,
        first_block=block,
        memory_efficient=memory_efficient,
    )


def _inception_stages(
    in_channels: int, filters: int, switches: Switches, *, memory_efficient: MemoryEfficient
) -> list[nn.Module]:
    block = _inception(switches, memory_efficient=memory_efficient)
    widths = (filters, 2 * filters, 4 * filters, 8 * filters)
    return _four_stages(in_channels, widths, block, switches, memory_efficient=memory_efficient)


def _depthwise_stages(
    in_channels: int, filters: int, switches: Switches, *, memory_efficient: MemoryEfficient
) -> list[nn.Module]:
    multiplier = switches.width_multiplier
    block = _depthwise_inception(
        switches, memory_efficient=memory_efficient, width_multiplier=multiplier
    )
    # Two branches of half the stage's filters each, one of them widened.
    halves = (filters // 2, filters, 2 * filters, 4 * filters)
    widths = tuple(int(half + multiplier * half) for half in halves)
    return _four_stages(in_channels, widths, block, switches, memory_efficient=memory_efficient)


def _dense_stages(
    in_channels: int, filters: int, switches: Switches, *, memory_efficient: MemoryEfficient
) -> list[nn.Module]:
    """A stem, then dense blocks of three layers with a transition after each."""
    stem = _depthwise_inception(switches, memory_efficient=memory_efficient)
    layer = (
        stem
        if switches.depthwise_dense_layers
        else _inception(switches, memory_efficient=memory_efficient)
    )
    norm_layer = NORMS[switches.norm]
    activation_layer = ACTIVATIONS[switches.activation]
    stages = [stem(in_channels, filters)]
    channels = filters
    for _ in range(switches.dense_blocks):
        dense = DenseBlock(
            channels,
            filters,
            num_layers=3,
            layer=layer,
            norm_layer=norm_layer,
            activation_layer=activation_layer,
            memory_efficient=memory_efficient,
        )
        transition = TransitionBlock(
            dense.out_channels,
            switches.transition_channels,
            layer=layer,
            norm_layer=norm_layer,
            activation_layer=activation_layer,
            memory_efficient=memory_efficient,
        )
        stages += [dense, transition]
        channels = transition.out_channels
    return stages


_STAGES: dict[str, tuple[Callable[..., list[nn.Module]], int]] = {
    "original": (_plain, 32),
    "depthwise_inception": (_depthwise_stages, 32),
    "inception_32": (_inception_stages, 32),
    "depthwise_inception_dense": (_dense_stages, 16),
    "inception_16": (_inception_stages, 16),
    "inception_8": (_inception_stages, 8),
}
"""How the stages of each case are built, and its base filters."""

CASES: tuple[str, ...] = tuple(_STAGES)
"""The six cases in the order of the 2018 study."""


def build_discriminator(
    case: str,
    *,
    variant: str = "as_coded",
    switches: Switches | None = None,
    base_filters: int | None = None,
    in_channels: int = 1,
    image_size: int = 28,
    memory_efficient: MemoryEfficient = True,
    device: Device = None,
    dtype: torch.dtype | None = None,
) -> Discriminator:
    """Build one of the six discriminators, its weights drawn from PyTorch's global generator.

    Args:
        case: One of `CASES`.
        variant: ``"as_coded"``: the 2018 source, faults included; ``"as_described"``: its text
            and drawing; ``"modern"``: what one would train today. `Switches` lists what differs.
        switches: Single deviations, in place of a variant's.
        base_filters: Filters of the first stage, which all widths are multiples of; even. The
            channels of the stem and the growth rate of the dense case. None: the case's own.
        in_channels: Channels of the image.
        image_size: Height and width of the image, at least 16.
        memory_efficient: Let the lean paths run; same outputs and gradients. ``"recompute"``:
            keep still less and compute more a second time, as each block says.
        device: Where the layers are built; None: PyTorch's default device.
        dtype: The precision of parameters and buffers; None: PyTorch's default dtype.

    Returns:
        A network from (N, in_channels, image_size, image_size) to (N, 1) scores.

    Raises:
        TypeError: A size that is no int, switches that are no `Switches`.
        ValueError: An unknown case or variant, an image below 16 x 16, an odd number of
            base filters, groups that do not divide the filters or are not of ``"original"``.

    Note:
        Differs from the original: the dense blocks put old features first and the flattened
        features are in another order; both are the same functions up to a permutation of weights.

    Example:
        >>> network = build_discriminator("inception_8")
        >>> sum(p.numel() for p in network.parameters())
        13857

    References:
        GAS - Generative Auxiliary Strategy to Accelerate Unconditional GAN Training (2018).
        Mao et al., Least Squares Generative Adversarial Networks, arXiv:1611.04076.
    """
    owner = "build_discriminator"
    check_choice(owner, "case", case, CASES)
    check_choice(owner, "variant", variant, VARIANTS)
    in_channels = check_int(owner, "in_channels", in_channels)
    image_size = check_int(owner, "image_size", image_size, minimum=16, maximum=LARGEST_IMAGE)
    check_memory_efficient(owner, memory_efficient)
    if switches is None:
        switches = VARIANTS[variant]
    elif not isinstance(switches, Switches):
        remedy = "Change a variant's: dataclasses.replace(VARIANTS[...], norm='live')."
        raise bad_type(owner, "switches", "be Switches or None", switches, remedy)
    if switches.groups > 1 and case != "original":
        rule = "have 1 group in other cases than 'original'"
        raise bad_value(owner, "switches", rule, switches.groups)
    build_stages, filters = _STAGES[case]
    if base_filters is not None:
        base_filters = check_int(owner, "base_filters", base_filters, minimum=2)
        if base_filters % 2:
            raise bad_value(owner, "base_filters", "be even: two branches share them", base_filters)
        filters = base_filters
    sizes = {"in_channels": in_channels, "image_size": image_size, "base_filters": filters}
    with placed(owner, device, dtype, **sizes) as put:
        network = Discriminator(
            build_stages(in_channels, filters, switches, memory_efficient=memory_efficient),
            in_channels=in_channels,
            image_size=image_size,
            head=switches.head,
        )
        SCHEMES[switches.init](network)
        if switches.spectral_norm:
            normalise_spectra(network)
        put(network)
    return network
