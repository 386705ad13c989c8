"""How many runs of a sweep are finished, whoever finishes them."""

from __future__ import annotations

from collections.abc import Sequence

from gaslayers.study.sweep.runs import Planned, find_done


class Tally:
    """A count of finished runs; each record is read once.

    Args:
        planned: The runs.

    Raises:
        ForeignRunError: A record that is not of its run is in the way.
    """

    def __init__(self, planned: Sequence[Planned]) -> None:
        self._unfinished = list(planned)
        self._total = len(self._unfinished)
        self.finished = 0
        """What `count` found last."""
        self.count()

    def count(self) -> int:
        """How many runs have a record of as many iterations as are asked for."""
        self._unfinished = [one for one in self._unfinished if not is_finished(one)]
        self.finished = self._total - len(self._unfinished)
        return self.finished


def is_finished(planned: Planned) -> bool:
    """Whether the run has a record of as many iterations as are asked for.

    Raises:
        ForeignRunError: A record that is not of the run is in the way.
    """
    done = find_done(planned)
    return done is not None and done.config_hash == planned.config.config_hash
