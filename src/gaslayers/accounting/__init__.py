"""What a module costs, said before it runs."""

from gaslayers.accounting.counting import count
from gaslayers.accounting.report import CountReport, ModuleCount, OperatorCount

__all__ = ["CountReport", "ModuleCount", "OperatorCount", "count"]
