"""Rules: for each family of operators, what is kept of it and how its result is had again."""

from gaslayers.lean.rules import (
    activation,
    arithmetic,
    convolution,
    dropout,
    norm,
    pool,
    shapes,
    weight,
)

__all__ = [
    "activation", "arithmetic", "convolution", "dropout", "norm", "pool", "shapes", "weight",
]  # fmt: skip
