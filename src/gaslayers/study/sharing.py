"""How several processes share one run: rows of a batch, parts of a loss, decisions of the first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from torch import Tensor

from gaslayers._checks import bad_value
from gaslayers.study.config import RunConfig

_T = TypeVar("_T")


def on_first(fabric: Fabric, make: Callable[[], _T]) -> _T:
    """What the first process makes, in every process; what it raises, every one raises.

    Args:
        fabric: That of the run.
        make: Called in the first process alone.

    Raises:
        OSError: ``make`` raised it in the first process.
        RuntimeError: Likewise.
        ValueError: Likewise.
    """
    if fabric.world_size == 1:
        return make()
    answer: tuple[Any, Exception | None] = (None, None)
    if fabric.is_global_zero:
        try:
            answer = (make(), None)
        except (OSError, RuntimeError, ValueError) as error:
            answer = (None, error)
    made, fault = fabric.broadcast(answer)
    if fault is not None:
        raise fault
    result: _T = made
    return result


def check_shares(config: RunConfig, fabric: Fabric) -> None:
    """Refuse a batch that the processes of a run cannot share equally, and a second precision.

    Raises:
        ValueError: The batch is no multiple of what all processes take at a time, or the fabric has
            a precision of its own.
    """
    precision = fabric.strategy.precision.precision
    if precision != "32-true":
        remedy = "A run's precision is in its configuration: RunConfig(precision=...)."
        raise bad_value("Game", "fabric", "have precision '32-true'", precision, remedy)
    at_a_time = fabric.world_size * config.accumulate * config.packing
    if config.batch_size % at_a_time:
        rule = (
            f"be a multiple of {at_a_time}: {fabric.world_size} processes"
            f" x {config.accumulate} (accumulate) x {config.packing} (packing)"
        )
        raise bad_value("RunConfig", "batch_size", rule, config.batch_size)


class Sharing:
    """The part that one process has of a run.

    Every draw is made for the whole batch, and a process takes its rows of it. Batch ``part`` of
    ``accumulate`` holds consecutive rows, and so does each share of it, so that neither the number
    of processes nor the order of their results changes which images meet in a step.

    Args:
        config: What the run is.
        fabric: Its processes.

    Raises:
        ValueError: The batch cannot be shared equally.
    """

    def __init__(self, config: RunConfig, fabric: Fabric) -> None:
        check_shares(config, fabric)
        self._fabric = fabric
        self.processes = fabric.world_size
        self.parts = config.accumulate
        self._is_mean = config.loss_reduction == "mean"

    def rows(self, batch: Tensor, part: int = 0, parts: int = 1) -> Tensor:
        """(N, ...) -> (N / parts / processes, ...), this process's of one part of a batch."""
        if parts * self.processes == 1:
            return batch
        size = len(batch) // (parts * self.processes)
        first = (part * self.processes + self._fabric.global_rank) * size
        return batch[first : first + size]

    def gather(self, rows: Tensor) -> Tensor:
        """(n, ...) -> (n * processes, ...), those of all processes in the order of the batch."""
        if self.processes == 1:
            return rows
        found = [torch.empty_like(rows) for _ in range(self.processes)]
        dist.all_gather(found, rows.contiguous())
        return torch.cat(found)

    def norm(self, rows: Tensor) -> Tensor:
        """The Euclidean norm of all processes' rows together, a scalar."""
        return self.gather(rows.norm().view(1)).norm()

    def total(self, loss: Tensor) -> float:
        """The loss of all processes together, of one of each."""
        if self.processes == 1:
            return loss.item()
        total = self._sum(loss)
        return total / self.processes if self._is_mean else total

    def is_any(self, *, flag: bool) -> bool:
        """Whether it is true in any process."""
        if self.processes == 1:
            return flag
        return self._sum(torch.tensor(float(flag), device=self._fabric.device)) > 0

    def _sum(self, x: Tensor) -> float:
        """The sum of a scalar over all processes."""
        total = x.detach().clone()
        dist.all_reduce(total)
        return total.item()

    def of_whole(self, loss: Tensor) -> Tensor:
        """This process's part of a loss: those of all processes add up to the whole batch's."""
        return loss / self.processes if self._is_mean and self.processes > 1 else loss

    def for_mean_gradient(self, loss: Tensor) -> Tensor:
        """Scale the loss of rows so that the step's gradient is that of the whole batch's loss.

        Gradients are averaged over processes, and added up over the parts of a batch.
        """
        if self._is_mean:
            return loss / self.parts if self.parts > 1 else loss
        return loss * self.processes if self.processes > 1 else loss
