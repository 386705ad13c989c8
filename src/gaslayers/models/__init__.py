"""The LSGAN generator and the six discriminators of GAS (2018), built from blocks alone."""

from gaslayers.models.cases import CASES, build_discriminator
from gaslayers.models.discriminator import Discriminator
from gaslayers.models.generator import LSGANGenerator
from gaslayers.models.switches import VARIANTS, Switches

__all__ = [
    "CASES",
    "VARIANTS",
    "Discriminator",
    "LSGANGenerator",
    "Switches",
    "build_discriminator",
]
