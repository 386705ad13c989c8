"""The memory that a step really took, and what of it the prediction leaves out."""

from __future__ import annotations

import importlib
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from gaslayers._checks import bad_type, bad_value, check_bool
from gaslayers.accounting._examples import check_device
from gaslayers.accounting._process import process_rise
from gaslayers.accounting.peak_report import PeakReport, StepPeak


@dataclass(frozen=True, kw_only=True)
class MeasuredPeak:
    """What `measure_peak` read: three numbers that mean three things, never to be mixed.

    Args:
        device: Where the step ran.
        before: Bytes that were allocated before the step, and are part of ``allocated``; 0 on a
            CPU, where only the step's own allocations are seen.
        allocated: Bytes that PyTorch's allocator had handed out at the peak.
        reserved: Bytes that it held at the peak, free ones included; None on a CPU, where nothing
            is held back.
        process: On an accelerator, bytes that the driver charges the process for after the step,
            context included. On a CPU, bytes by which the peak of a fresh process' resident
            memory rose in the step. None: unknown.
        process_reason: Why ``process`` is None; "" where it is known.
        requested: Bytes that were asked of the allocator at the peak, before rounding; None where
            the device does not say.
    """

    device: str
    before: int
    allocated: int
    reserved: int | None
    process: int | None
    process_reason: str = ""
    requested: int | None = None

    @property
    def rise(self) -> int:
        """Bytes by which the step raised what was allocated."""
        return self.allocated - self.before

    def workspace(self, predicted: PeakReport | StepPeak) -> int:
        """Bytes of the step that no tensor accounts for: what kernels took to work in.

        The rise over the step's start is compared with the predicted rise of tensors, rounded to
        blocks on CUDA where the prediction has those.

        Args:
            predicted: For the same module and inputs; a report stands for its steady state, so
                that the step must have run once before it was measured.

        Raises:
            TypeError: ``predicted`` is none of the two.
        """
        owner = "MeasuredPeak.workspace"
        if not isinstance(predicted, PeakReport | StepPeak):
            raise bad_type(owner, "predicted", "be a PeakReport or one of its steps", predicted)
        if isinstance(predicted, PeakReport) and not self.device.startswith("cpu"):
            return self.rise - (predicted.allocator_peak - predicted.allocator_start)
        step = predicted if isinstance(predicted, StepPeak) else predicted.steady_state
        return self.rise - (step.peak - step.start)

    def to_dict(self) -> dict[str, Any]:
        """The reading as plain strings and integers."""
        return asdict(self) | {"rise": self.rise}

    def to_json(self, *, indent: int | None = 2) -> str:
        """The reading as JSON."""
        return json.dumps(self.to_dict(), indent=indent)


def measure_peak(
    step: Callable[[], Any],
    *,
    device: torch.device | str | None = None,
    process: bool = True,
) -> MeasuredPeak:
    """Run a step and read how much memory it took.

    Args:
        step: What to run, such as one iteration of training. Run it once before, so that what is
            made in the first step alone, as an optimiser's state, is there.
        device: Where it computes; None: the accelerator, where there is one, else the CPU.
        process: On a CPU, also run the step in a fresh process and read its resident memory; the
            step must be picklable, as a function of a module or a partial of one. It then runs
            twice, and the second run pays for what a process does once.

    Raises:
        TypeError: ``step`` is no callable, ``process`` no bool, ``device`` no device.
        ValueError: No device of this name, or one that keeps no book. An error of the step's own
            comes as it is.

    Note:
        On a CPU, memory from before the step that is freed within it is unknown to the book:
        where a step starts by dropping old gradients, its rise comes out too high by them.

    Example:
        >>> import torch
        >>> from gaslayers import measure_peak
        >>> measured = measure_peak(lambda: torch.ones(1000).exp_(), device="cpu", process=False)
        >>> measured.allocated
        4000
    """
    owner = "measure_peak"
    if not callable(step):
        raise bad_type(owner, "step", "be a callable", step)
    check_bool(owner, "process", process)
    if device is None:
        current = (
            torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        )
        device = current or "cpu"
    device = check_device(owner, "device", device)
    if device.type == "cpu":
        allocated = _allocated_on_cpu(step)
        rise, reason = process_rise(step) if process else (None, "not asked for")
        return MeasuredPeak(
            device="cpu",
            before=0,
            allocated=allocated,
            reserved=None,
            process=rise,
            process_reason=reason,
        )
    return _measure_accelerator(owner, step, device)


def _measure_accelerator(owner: str, step: Callable[[], Any], device: torch.device) -> MeasuredPeak:
    runtime: Any = getattr(torch, device.type, None)
    if not hasattr(runtime, "max_memory_allocated"):
        raise bad_value(owner, "device", "be one whose allocator keeps book", str(device))
    if not runtime.is_available() or (device.index or 0) >= runtime.device_count():
        raise bad_value(owner, "device", "be one that this machine has", str(device))
    runtime.synchronize(device)
    runtime.reset_peak_memory_stats(device)
    before = runtime.memory_allocated(device)
    step()
    runtime.synchronize(device)
    used, reason = _charged_by_driver(device)
    return MeasuredPeak(
        device=str(device),
        before=before,
        allocated=runtime.max_memory_allocated(device),
        reserved=runtime.max_memory_reserved(device),
        process=used,
        process_reason=reason,
        requested=runtime.memory_stats(device).get("requested_bytes.all.peak"),
    )


def _charged_by_driver(device: torch.device) -> tuple[int | None, str]:
    """What the NVIDIA driver charges this process for, context included, or why it is unknown."""
    if device.type != "cuda":
        return None, f"{device.type} has no NVML"
    try:
        # Not a dependency of counting, so that it is looked up by name and only here.
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return None, "pynvml is not installed"
    try:
        nvml.nvmlInit()
        try:
            uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
            handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
            processes = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        finally:
            nvml.nvmlShutdown()
    except nvml.NVMLError as error:  # a slice of a GPU, for one, has no such reading
        return None, f"NVML: {error}"
    used = [process.usedGpuMemory for process in processes if process.pid == os.getpid()]
    if not used or used[0] is None:
        return None, "the driver does not list this process"
    return int(used[0]), ""


def _allocated_on_cpu(step: Callable[[], Any]) -> int:
    """The highest sum of the allocator's events."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    memory = [event for event in events if event.get("name") == "[memory]"]
    total = peak = 0
    for event in sorted(memory, key=lambda event: event["ts"]):
        if event["args"]["Device Type"] == 0:  # the CPU's
            total += event["args"]["Bytes"]
            peak = max(peak, total)
    return peak
