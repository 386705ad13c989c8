"""What was really taken, against what is known to be, and against the prediction."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from functools import partial

import pytest
import torch
from torch import nn

from gaslayers import measure_peak, peak_memory
from gaslayers.accounting import MeasuredPeak, measured

MIB = 2**20


def on_cpu(step) -> MeasuredPeak:
    return measure_peak(step, device="cpu", process=False)


def test_allocated_is_the_highest_sum_of_what_is_alive() -> None:
    def step():
        for _ in range(3):
            kept = torch.empty(1000)
            torch.empty(500)
            del kept

    reading = on_cpu(step)
    assert (reading.allocated, reading.before, reading.rise) == (6000, 0, 6000)
    assert (reading.reserved, reading.requested) == (None, None)


def training_step(network, x, optimizer):
    def step() -> None:
        output = network(x)
        loss = output.sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def test_workspace_is_what_no_tensor_accounts_for() -> None:
    network = nn.Sequential(nn.Linear(50, 200), nn.Tanh(), nn.Linear(200, 7))
    x = torch.randn(30, 50)
    step = training_step(network, x, torch.optim.Adam(network.parameters()))
    report = peak_memory(network, x, optimizer=torch.optim.Adam)
    step()
    reading = on_cpu(step)
    # Products on a CPU need no workspace: a few numbers at most.
    assert 0 <= reading.workspace(report) <= 64
    assert reading.workspace(report.steady_state) == reading.workspace(report)
    assert report.peak - report.steady_state.start > 100_000


def test_workspace_on_an_accelerator_is_compared_in_blocks() -> None:
    report = peak_memory(nn.Linear(4, 8), torch.ones(2, 4))
    reading = MeasuredPeak(
        device="cuda:0", before=5000, allocated=9000, reserved=None, process=None
    )
    assert reading.workspace(report) == 4000 - (report.allocator_peak - report.allocator_start)
    rise = report.peak - report.steady_state.start
    assert reading.workspace(report.steady_state) == 4000 - rise


def test_workspace_refuses_other_predictions() -> None:
    with pytest.raises(TypeError, match=r"`predicted` must be a PeakReport or one of its steps"):
        on_cpu(partial(torch.empty, 1)).workspace(12)


def test_process_is_the_rise_of_a_fresh_one() -> None:
    reading = measure_peak(partial(torch.ones, 16 * MIB), device="cpu")
    assert 64 * MIB <= reading.process <= 80 * MIB
    assert reading.process_reason == ""
    assert json.loads(reading.to_json())["rise"] == reading.allocated


def test_process_is_unknown_with_a_reason() -> None:
    reading = measure_peak(lambda: torch.ones(1), device="cpu")
    assert reading.process is None
    assert "cannot be sent to another process" in reading.process_reason
    assert on_cpu(partial(torch.ones, 1)).process_reason == "not asked for"


def test_process_that_fails_is_unknown_with_a_reason(monkeypatch) -> None:
    failed = subprocess.CompletedProcess([], 1, stdout=b"", stderr=b"Traceback\nKeyError: 'x'\n")
    monkeypatch.setattr(subprocess, "run", lambda *_args, **_options: failed)
    reading = measure_peak(partial(torch.ones, 1), device="cpu")
    assert (reading.process, "KeyError: 'x'" in reading.process_reason) == (None, True)


def test_step_and_its_error_are_the_callers() -> None:
    def fail():
        raise KeyError("gone")

    with pytest.raises(KeyError, match=r"gone"):
        on_cpu(fail)
    with pytest.raises(TypeError, match=r"measure_peak: `step` must be a callable, got 3"):
        measure_peak(3)


class Runtime:
    """An accelerator's book, with the calls in order."""

    def __init__(self) -> None:
        self.calls = []
        self.now = 1000

    def is_available(self):
        return True

    def device_count(self):
        return 1

    def __getattr__(self, name):
        answers = {
            "memory_allocated": lambda: self.now,
            "max_memory_allocated": lambda: 5120,
            "max_memory_reserved": lambda: 2 * MIB,
            "memory_stats": lambda: {"requested_bytes.all.peak": 5000},
            "synchronize": lambda: None,
            "reset_peak_memory_stats": lambda: None,
        }

        def call(_device):
            self.calls.append(name)
            return answers[name]()

        return call


def test_accelerator_is_read_after_all_its_work(monkeypatch) -> None:
    runtime = Runtime()
    monkeypatch.setattr(torch, "xpu", runtime)
    reading = measure_peak(lambda: runtime.calls.append("step"), device="xpu")
    assert reading == MeasuredPeak(
        device="xpu",
        before=1000,
        allocated=5120,
        reserved=2 * MIB,
        process=None,
        process_reason="xpu has no NVML",
        requested=5000,
    )
    assert reading.rise == 4120
    start = runtime.calls.index("step")
    assert runtime.calls[:start] == ["synchronize", "reset_peak_memory_stats", "memory_allocated"]
    assert runtime.calls[start + 1] == "synchronize"


@pytest.mark.parametrize("device", ["mps", "meta", "hpu"])
def test_device_without_a_book_is_refused(monkeypatch, device) -> None:
    monkeypatch.setattr(torch, "mps", types.SimpleNamespace())
    rule = f"`device` must be one whose allocator keeps book, got '{device}'"
    with pytest.raises(ValueError, match=rule):
        measure_peak(lambda: None, device=device)


def test_device_that_the_machine_lacks_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(torch, "xpu", Runtime())
    with pytest.raises(ValueError, match=r"`device` must be one that this machine has, got 'xpu:1"):
        measure_peak(lambda: None, device="xpu:1")
    monkeypatch.setattr(torch.xpu, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"`device` must be one that this machine has, got 'xpu'"):
        measure_peak(lambda: None, device="xpu")


class Nvml(types.ModuleType):
    """The driver's answer."""

    class NVMLError(Exception):
        pass

    def __init__(self, processes) -> None:
        super().__init__("pynvml")
        self.processes = processes
        self.opened = 0

    def nvmlInit(self) -> None:  # noqa: N802  (NVML's name)
        self.opened += 1

    def nvmlShutdown(self) -> None:  # noqa: N802  (NVML's name)
        self.opened -= 1

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802  (NVML's name)
        return uuid

    def nvmlDeviceGetComputeRunningProcesses(self, handle):  # noqa: N802  (NVML's name)
        if handle != "GPU-u":
            raise self.NVMLError("no such GPU")
        return self.processes


@pytest.mark.parametrize("known", [True, False])
def test_driver_says_what_this_process_is_charged(monkeypatch, known) -> None:
    pid = measured.os.getpid() if known else -1
    nvml = Nvml([types.SimpleNamespace(pid=pid, usedGpuMemory=7 * MIB)])
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    properties = types.SimpleNamespace(uuid="u")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    used, reason = measured._charged_by_driver(torch.device("cuda"))
    expected = (7 * MIB, "") if known else (None, "the driver does not list this process")
    assert (used, reason) == expected
    assert nvml.opened == 0
    properties.uuid = "v"
    assert measured._charged_by_driver(torch.device("cuda")) == (None, "NVML: no such GPU")
    assert nvml.opened == 0


@pytest.mark.cuda
def test_cuda_allocates_what_was_predicted_and_workspaces() -> None:
    network = nn.Sequential(nn.Linear(500, 2000), nn.Tanh(), nn.Linear(2000, 7)).cuda()
    x = torch.randn(300, 500, device="cuda")
    step = training_step(network, x, torch.optim.Adam(network.parameters()))
    report = peak_memory(network, x, optimizer=torch.optim.Adam)
    step()
    reading = measure_peak(step)
    assert reading.reserved >= reading.allocated > reading.before > 0
    assert reading.device.startswith("cuda")
    assert 0 <= reading.workspace(report) <= 2 * MIB
