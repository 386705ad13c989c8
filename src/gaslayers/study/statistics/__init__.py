"""What runs over several seeds say: intervals, failure rates, tests of equality, and their power.

A run that failed has no finite score. It is never left out: it counts as worse than any other.
"""

from gaslayers.study.statistics.differences import newcombe
from gaslayers.study.statistics.equivalence import Equivalence, tost
from gaslayers.study.statistics.families import holm
from gaslayers.study.statistics.power import equivalence_power, power_line, seeds_needed
from gaslayers.study.statistics.scores import Interval
from gaslayers.study.statistics.summary import Summary, summarise, wilson

__all__ = [
    "Equivalence",
    "Interval",
    "Summary",
    "equivalence_power",
    "holm",
    "newcombe",
    "power_line",
    "seeds_needed",
    "summarise",
    "tost",
    "wilson",
]
