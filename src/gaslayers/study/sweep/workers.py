"""Several workers on one machine, each with threads of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess

import torch
from lightning_fabric import Fabric

from gaslayers.study.config import RunConfig
from gaslayers.study.data import Digits
from gaslayers.study.records import CurvePoint
from gaslayers.study.run import OnIteration
from gaslayers.study.stopping import TERMINATED, ending_at_sigterm
from gaslayers.study.sweep.runs import Planned, finish_all

RETRIES = 3
"""How many dead workers are replaced before a sweep gives up."""

_POLL_SECONDS = 0.5

OnProgress = Callable[[int, int], None]
"""Called with how many runs are finished and how many there are."""


class WorkerError(RuntimeError):
    """A worker ended with an error, or too many workers died."""


def run_workers(
    planned: Sequence[Planned],
    digits: Digits,
    *,
    workers: int,
    accelerator: str = "cpu",
    on_progress: OnProgress,
) -> None:
    """Finish all runs by several processes, each of which makes one run at a time.

    A run's lock decides who makes it, so other sweeps may work on the same folder. A worker that
    is killed is replaced, and its run goes on from its last checkpoint. SIGTERM and an interrupt
    end all workers after they have saved.

    Args:
        planned: The runs.
        digits: The real data.
        workers: Processes. The threads of this one are shared out among them.
        accelerator: Where the runs run.
        on_progress: Called now and then.

    Raises:
        WorkerError: A worker ended with an error, which it has printed, or too many were killed.
        Terminated: SIGTERM came.
    """
    threads = max(1, torch.get_num_threads() // workers)
    # Not by fork: PyTorch's threads do not survive one.
    context = multiprocessing.get_context("spawn")

    def start() -> BaseProcess:
        process = context.Process(target=_work, args=(planned, digits, threads, accelerator))
        process.start()
        return process

    deaths = 0
    processes: list[BaseProcess] = []
    with ending_at_sigterm():
        try:
            processes += [start() for _ in range(workers)]
            while processes:
                time.sleep(_POLL_SECONDS)
                on_progress(count_finished(planned), len(planned))
                for process in [one for one in processes if not one.is_alive()]:
                    processes.remove(process)
                    status = process.exitcode or 0
                    if status > 0:
                        raise WorkerError(f"a worker ended with status {status}, as it says above")
                    if status < 0:  # by a signal
                        deaths += 1
                        if deaths > RETRIES:
                            raise WorkerError(
                                f"{deaths} workers were killed, the last by {-status}"
                            )
                        processes.append(start())
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.join()


def count_finished(planned: Sequence[Planned]) -> int:
    """How many runs have a record."""
    return sum(one.run_folder.record_path.exists() for one in planned)


def _work(planned: Sequence[Planned], digits: Digits, threads: int, accelerator: str) -> None:
    """Be a worker."""
    torch.set_num_threads(threads)
    try:
        fabric = Fabric(accelerator=accelerator, devices=1)
        finish_all(planned, digits, fabric, on_run=_watch_parent, judged=True)
    except KeyboardInterrupt:
        raise SystemExit(TERMINATED) from None
    except (OSError, ValueError, RuntimeError) as error:
        sys.stderr.write(f"gaslayers sweep: {error}\n")
        raise SystemExit(1) from error


def _watch_parent(_config: RunConfig) -> OnIteration:
    """Let a worker save and end when the process that started it was killed."""
    parent = multiprocessing.parent_process()

    def on_iteration(_done: int, _point: CurvePoint | None) -> None:
        if parent is not None and not parent.is_alive():
            os.kill(os.getpid(), signal.SIGTERM)

    return on_iteration
