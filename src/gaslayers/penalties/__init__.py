"""Gradient penalties, exact, without double backward where the discriminator allows it."""

from gaslayers.penalties.explain import explain_penalty
from gaslayers.penalties.penalty import gradient_penalty
from gaslayers.penalties.report import PenaltyReport, SmoothOperator
from gaslayers.penalties.variants import dragan_penalty, r1_penalty, r2_penalty, wgan_gp_penalty

__all__ = [
    "PenaltyReport",
    "SmoothOperator",
    "dragan_penalty",
    "explain_penalty",
    "gradient_penalty",
    "r1_penalty",
    "r2_penalty",
    "wgan_gp_penalty",
]
