"""Gradient penalties, exact, without double backward where the discriminator allows it."""

from gaslayers.penalties.penalty import gradient_penalty

__all__ = ["gradient_penalty"]
