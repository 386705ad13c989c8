"""Linear twins, a file a family of operators."""

import gaslayers.penalties.twins.bounded
import gaslayers.penalties.twins.dropout
import gaslayers.penalties.twins.linear
import gaslayers.penalties.twins.norm
import gaslayers.penalties.twins.pool
import gaslayers.penalties.twins.product
import gaslayers.penalties.twins.rectifier
import gaslayers.penalties.twins.sums  # noqa: F401  # each fills the table
