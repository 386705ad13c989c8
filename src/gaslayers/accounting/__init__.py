"""What a module costs, said before it trains: exact counts, kept bytes, and the training peak."""

from gaslayers.accounting._convention import CONVENTION
from gaslayers.accounting.batch_size import max_batch_size
from gaslayers.accounting.cost import Cost, CostTable, cost_of
from gaslayers.accounting.counting import count
from gaslayers.accounting.explaining import SavedTensor, SavingReport, explain_saving
from gaslayers.accounting.gan_peak import GANPeakReport, gan_peak_memory
from gaslayers.accounting.measured import MeasuredPeak, measure_peak
from gaslayers.accounting.peak import peak_memory
from gaslayers.accounting.peak_report import Moment, PeakReport, StepPeak
from gaslayers.accounting.report import CountReport, ModuleCount, OperatorCount
from gaslayers.accounting.saving import saved_bytes, saved_bytes_by_module

__all__ = [
    "CONVENTION",
    "Cost",
    "CostTable",
    "CountReport",
    "GANPeakReport",
    "MeasuredPeak",
    "ModuleCount",
    "Moment",
    "OperatorCount",
    "PeakReport",
    "SavedTensor",
    "SavingReport",
    "StepPeak",
    "cost_of",
    "count",
    "explain_saving",
    "gan_peak_memory",
    "max_batch_size",
    "measure_peak",
    "peak_memory",
    "saved_bytes",
    "saved_bytes_by_module",
]
