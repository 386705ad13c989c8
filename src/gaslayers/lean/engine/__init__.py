"""The lean engine: what autograd saves of any forward code is kept in the least exact form."""

from gaslayers.lean.engine.frozen import frozen
from gaslayers.lean.engine.saving import lean_saving
from gaslayers.lean.engine.wrap import make_lean, make_plain

__all__ = ["frozen", "lean_saving", "make_lean", "make_plain"]
