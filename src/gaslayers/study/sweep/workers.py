"""Several workers on one machine, each with threads of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess

import torch
from lightning_fabric import Fabric

from gaslayers.study.data import Digits
from gaslayers.study.stopping import TERMINATED, ending_at_sigterm
from gaslayers.study.sweep.runs import Planned, finish_all, watch_nothing
from gaslayers.study.sweep.tally import Tally

RETRIES = 3
"""How many workers may die without a run finished between, before a sweep gives up."""

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
    judged: bool = True,
    on_progress: OnProgress,
) -> None:
    """Finish all runs by several processes, each of which makes one run at a time.

    A run's lock decides who makes it, so other sweeps may work on the same folder. A worker that
    is killed is replaced, and its run goes on from its last checkpoint. SIGTERM and an interrupt
    end all workers after they have saved, and so does the death of this process.

    Args:
        planned: The runs.
        digits: The real data.
        workers: Processes. The threads of this one are shared out among them, and so are the cards.
        accelerator: Where the runs run.
        judged: Whether samples are judged at the end of each run.
        on_progress: Called now and then.

    Raises:
        ForeignRunError: A record that is not of its run is in the way.
        WorkerError: A worker ended with an error, which it has printed, or too many were killed.
        Terminated: SIGTERM came.
    """
    tally = Tally(planned)
    threads = max(1, torch.get_num_threads() // workers)
    # Not by fork: PyTorch's threads do not survive one.
    context = multiprocessing.get_context("spawn")

    def start(place: int) -> BaseProcess:
        job = (planned, digits, threads, accelerator, place, judged)
        process = context.Process(target=_work, args=job)
        process.start()
        return process

    deaths = 0
    processes: dict[int, BaseProcess] = {}
    with ending_at_sigterm():
        try:
            for place in range(workers):
                processes[place] = start(place)
            while processes:
                time.sleep(_POLL_SECONDS)
                before = tally.finished
                if tally.count() > before:
                    deaths = 0
                on_progress(tally.finished, len(planned))
                deaths += _replace_dead(processes, start)
                if deaths > RETRIES:
                    raise WorkerError(f"{deaths} workers were killed, one after the other")
        finally:
            for process in processes.values():
                process.terminate()
            for process in processes.values():
                process.join()


def _replace_dead(processes: dict[int, BaseProcess], start: Callable[[int], BaseProcess]) -> int:
    """Start another worker in place of each killed one, and return how many there were.

    Raises:
        WorkerError: A worker ended with an error.
    """
    deaths = 0
    for place, process in list(processes.items()):
        if process.is_alive():
            continue
        del processes[place]
        if _is_killed(process.exitcode or 0):
            deaths += 1
            processes[place] = start(place)
    return deaths


def _is_killed(status: int) -> bool:
    """Whether a worker ended by a signal, from the status that `multiprocessing` reports.

    Raises:
        WorkerError: It ended with an error.
    """
    if status < 0 or status == TERMINATED:
        return True
    if status:
        raise WorkerError(f"a worker ended with status {status}, as it says above")
    return False


def _work(
    planned: Sequence[Planned],
    digits: Digits,
    threads: int,
    accelerator: str,
    place: int,
    judged: bool,  # noqa: FBT001  (given by position, to another process)
) -> None:
    """Be a worker."""
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        cards = torch.cuda.device_count() if accelerator == "cuda" else 0
        devices = [place % cards] if cards else 1
        fabric = Fabric(accelerator=accelerator, devices=devices)
        finish_all(planned, digits, fabric, on_run=watch_nothing, judged=judged)
    except KeyboardInterrupt:
        raise SystemExit(TERMINATED) from None
    except (OSError, ValueError, RuntimeError) as error:
        sys.stderr.write(f"gaslayers sweep: {error}\n")
        raise SystemExit(1) from error


def _end_with_parent() -> None:
    """Let a worker save and end when the process that started it was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
