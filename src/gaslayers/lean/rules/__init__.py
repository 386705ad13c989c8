"""Rules: for each family of operators, what is kept of it and how its result is had again."""

import gaslayers.lean.rules.activation
import gaslayers.lean.rules.arithmetic
import gaslayers.lean.rules.convolution
import gaslayers.lean.rules.distance
import gaslayers.lean.rules.dropout
import gaslayers.lean.rules.norm
import gaslayers.lean.rules.pool
import gaslayers.lean.rules.rectifier
import gaslayers.lean.rules.shapes
import gaslayers.lean.rules.weight  # noqa: F401  # each fills the table
