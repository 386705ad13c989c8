"""Many runs over many machines by Ray: one task a run, on a folder that all of them see."""

from __future__ import annotations

import dataclasses
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import Timeout
from lightning_fabric import Fabric

import gaslayers
from gaslayers.study.data import Digits
from gaslayers.study.stopping import deferring_sigterm, ending_at_sigterm
from gaslayers.study.sweep.cards import runs_per_card
from gaslayers.study.sweep.runs import AT_ONCE, FOR_EVER, Planned, finish, watch_nothing
from gaslayers.study.sweep.tally import Tally, is_finished
from gaslayers.study.sweep.workers import RETRIES, OnProgress

LOCAL = "local"
"""The address of a cluster that is started here, on this machine alone."""

_POLL_SECONDS = 0.5


class ClusterError(RuntimeError):
    """There is no such cluster, it cannot make the runs, or it did not."""


def run_on_cluster(
    planned: Sequence[Planned],
    digits: Digits,
    *,
    address: str,
    accelerator: str = "auto",
    workers: int | None = None,
    judged: bool = True,
    on_progress: OnProgress,
) -> None:
    """Finish all runs by a Ray cluster, one task a run.

    A run is made by the task that holds its lock, and is made once: finished runs are kept, and
    other sweeps may work on the same folder. When a machine or a process dies, its run goes on from
    its last checkpoint elsewhere. SIGTERM and an interrupt end the tasks.

    Args:
        planned: The runs. All machines see their folders under the same paths.
        digits: The real data, which goes to each machine once.
        address: Of the cluster, as for ``ray.init``: ``"host:6379"``, ``"ray://host:10001"``,
            ``"auto"`` for the one that runs here, or ``"local"``, which starts one in this process.
        accelerator: ``"cpu"``: a processor and a thread for each run. ``"cuda"``: a GPU, or as
            small a part of one as lets the largest run fit. ``"auto"``: GPUs where there are any.
        workers: Processors of a cluster that is started here; None: all.
        judged: Whether samples are judged at the end of each run.
        on_progress: Called now and then.

    Raises:
        ForeignRunError: A record that is not of its run is in the way.
        ClusterError: Ray is not installed, there is no such cluster, it has no such device, a task
            failed, or the folder is not shared.
        Terminated: SIGTERM came.
        ValueError: ``workers`` is given for a cluster that is there already.
    """
    ray = _import_ray()
    planned = [
        dataclasses.replace(one, folder=Path(one.folder).expanduser().absolute()) for one in planned
    ]
    tally = Tally(planned)
    with _connected(ray, address, workers), _ending_at_sigterm():
        resources = _resources(ray, planned, accelerator)
        task = ray.remote(max_retries=RETRIES, **resources)(_make)
        job = _Job("cuda" if "num_gpus" in resources else "cpu", judged, _versions())
        data = ray.put(digits)
        # What another sweep works on is put off, and then waited for.
        for timeout in (AT_ONCE, FOR_EVER):
            left = [one for one in planned if not is_finished(one)]
            for one in left:
                one.folder.mkdir(parents=True, exist_ok=True)
            waiting = [task.remote(one, data, job, timeout) for one in left]
            _wait(ray, waiting, tally, on_progress, len(planned))
        missing = [one for one in planned if not is_finished(one)]
        if missing:
            raise ClusterError(
                f"{missing[0].run_folder.record_path} is not there, though its run ended. All "
                "machines must see the folder of the sweep under the same path."
            )


@dataclasses.dataclass(frozen=True)
class _Job:
    """What all tasks of a sweep are told."""

    accelerator: str
    judged: bool
    versions: dict[str, str]


def _make(planned: Planned, digits: Digits, job: _Job, timeout: float) -> None:
    """Be a task: finish one run, unless another holds it and there is no time to wait."""
    if _versions() != job.versions:
        raise ClusterError(
            f"{socket.gethostname()} has {_versions()}, and this sweep was started with "
            f"{job.versions}. Install the same on all machines."
        )
    if not planned.folder.is_dir():
        raise ClusterError(
            f"{socket.gethostname()} has no folder {planned.folder}. All machines must see the "
            "folder of the sweep under the same path."
        )
    torch.set_num_threads(1)
    fabric = Fabric(accelerator=job.accelerator, devices=1)
    with _ending_at_sigterm():
        try:
            finish(
                planned,
                digits,
                fabric,
                on_run=watch_nothing,
                timeout=timeout,
                judged=job.judged,
            )
        except Timeout:
            return  # another sweep's, which is looked after later


@contextmanager
def _ending_at_sigterm() -> Iterator[None]:
    """As `ending_at_sigterm`, in place of the handler that Ray sets in its drivers and workers.

    A task saves its run so, where Ray ends its process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    rays = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with ending_at_sigterm():
            yield
    finally:
        signal.signal(signal.SIGTERM, rays)


def _versions() -> dict[str, str]:
    """What must be the same on all machines for runs to be comparable."""
    return {"gaslayers": gaslayers.__version__, "torch": torch.__version__}


def _import_ray() -> Any:
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ClusterError(
            "a sweep on a cluster takes Ray, which is not installed. "
            "Install it by: pip install 'gaslayers[study,cluster]'"
        ) from error
    return ray


@contextmanager
def _connected(ray: Any, address: str, workers: int | None) -> Iterator[None]:
    """Be connected to a cluster within; one that is started here ends with it."""
    if workers is not None and address != LOCAL:
        raise ValueError(
            f"run_on_cluster: `workers` must be None with a cluster that is there already, got "
            f"{workers}. Its resources say how many runs it makes at a time."
        )
    if ray.is_initialized():  # by the program that this is part of
        yield
        return
    options: dict[str, Any] = {"address": address, "log_to_driver": False}
    if address == LOCAL:
        options |= {"num_cpus": workers, "include_dashboard": False}
    try:
        ray.init(**options)
    except (ConnectionError, ImportError, OSError, RuntimeError, ValueError) as error:
        raise ClusterError(f"there is no Ray cluster at {address!r}: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _resources(ray: Any, planned: Sequence[Planned], accelerator: str) -> dict[str, float]:
    """What one run takes of a machine, in Ray's words."""
    cards = ray.cluster_resources().get("GPU", 0)
    if accelerator == "cpu" or (accelerator == "auto" and not cards):
        return {"num_cpus": 1}
    if not cards:
        raise ClusterError(f"the cluster has no GPU for the device {accelerator!r}")
    fitting = runs_per_card([one.config for one in planned], _smallest_card(ray))
    return {"num_cpus": 1, "num_gpus": gpu_share(fitting)}


def gpu_share(runs: int) -> float:
    """The part of a GPU that one of so many runs asks Ray for, which counts in 10,000ths."""
    return int(10_000 / min(runs, 10_000)) / 10_000


def _smallest_card(ray: Any) -> int:
    """Bytes of the smallest card of the cluster, each machine asked by a task."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    measure = ray.remote(num_cpus=0)(_measure_cards)
    asked = [
        measure.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote()
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get("GPU", 0)
    ]
    return min(ray.get(asked))


def _measure_cards() -> int:
    """Bytes of the smallest card of this machine, by the driver, from which Ray hides none."""
    import pynvml

    pynvml.nvmlInit()
    handles = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
    return min(int(pynvml.nvmlDeviceGetMemoryInfo(handle).total) for handle in handles)


def _wait(ray: Any, waiting: list[Any], tally: Tally, on_progress: OnProgress, total: int) -> None:
    """Wait for tasks; the first error ends all of them.

    Raises:
        ClusterError: A task failed.
        Terminated: SIGTERM came.
    """
    # Not at once: within `ray.wait` Ray turns what the signal raises into an exit of its own.
    with deferring_sigterm() as must_stop:
        try:
            while waiting and not must_stop():
                ended, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=_POLL_SECONDS)
                on_progress(tally.count(), total)
                ray.get(ended)
            on_progress(tally.count(), total)
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            raise ClusterError(str(cause or error)) from error
        finally:
            for one in waiting:
                ray.cancel(one, force=False)
