"""The two networks of a run, and the images that its discriminator scores together."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor

from gaslayers.models import Discriminator, LSGANGenerator, build_discriminator
from gaslayers.study.config import RunConfig
from gaslayers.study.randomness import seeded_init


def make_generator(config: RunConfig) -> LSGANGenerator:
    """The generator with its first weights."""
    with seeded_init(config.seed, "init of G"):
        return LSGANGenerator(
            base_channels=config.generator_base_channels,
            upsampling=config.generator_upsampling,
            variant=config.generator_variant,
        )


def make_discriminator(config: RunConfig, *, memory_efficient: bool = True) -> Discriminator:
    """The discriminator with its first weights."""
    with seeded_init(config.seed, "init of D"):
        return build_discriminator(
            config.case,
            variant=config.variant,
            switches=config.discriminator_switches,
            base_filters=config.base_filters,
            in_channels=config.packing,
            memory_efficient=memory_efficient,
        )


def pack(images: Tensor, packing: int) -> Tensor:
    """(N, 1, H, W) -> (N / packing, packing, H, W): images that D scores together.

    Note:
        Differs from the paper: there D gets as many packs as images without packing, so a batch has
        more images. Here the batch stays, and so does what the generator costs.

    References:
        Lin et al., PacGAN: The Power of Two Samples in Generative Adversarial Networks,
        arXiv:1712.04086, section 3.
    """
    if packing == 1:
        return images
    return rearrange(images, "(n m) 1 h w -> n m h w", m=packing)
