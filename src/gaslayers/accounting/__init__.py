"""What a module costs, said before it trains: exact counts, and the bytes kept for backward."""

from gaslayers.accounting._convention import CONVENTION
from gaslayers.accounting.counting import count
from gaslayers.accounting.report import CountReport, ModuleCount, OperatorCount
from gaslayers.accounting.saving import saved_bytes, saved_bytes_by_module

__all__ = [
    "CONVENTION",
    "CountReport",
    "ModuleCount",
    "OperatorCount",
    "count",
    "saved_bytes",
    "saved_bytes_by_module",
]
