from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import pytest
import torch
from lightning_fabric import Fabric

from gaslayers.study import memory
from gaslayers.study.memory import measure_discriminator_step
from gaslayers.study.training import Game

DEVICE = torch.device("cuda", 0)


class NVMLError(Exception):
    """What the driver's library raises."""


class FakeDriver(SimpleNamespace):
    """pynvml as far as it is asked: one GPU and the processes on it."""

    NVMLError = NVMLError

    def __init__(self, processes=(), fault=None):
        super().__init__(processes=processes, fault=fault, open=0, asked=[])

    def nvmlInit(self):  # noqa: N802
        self.open += 1

    def nvmlShutdown(self):  # noqa: N802
        self.open -= 1

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802
        self.asked.append(uuid)
        if self.fault is not None:
            raise self.fault
        return "handle"

    def nvmlDeviceGetComputeRunningProcesses(self, handle):  # noqa: N802
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in self.processes]


@pytest.fixture
def install(monkeypatch):
    def install(driver):
        monkeypatch.setitem(sys.modules, "pynvml", driver)
        properties = SimpleNamespace(uuid="1234")
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
        return driver

    return install


def test_measure_reads_nothing_off_a_processor(make_game):
    game = make_game()
    before = {name: tensor.clone() for name, tensor in game.discriminator.state_dict().items()}
    assert measure_discriminator_step(game) is None
    after = game.discriminator.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_process_memory_is_that_of_this_process(install):
    driver = install(FakeDriver([(1, 111), (os.getpid(), 222), (2, 333)]))
    assert memory._process_bytes(DEVICE) == 222
    assert driver.asked == ["GPU-1234"]
    assert driver.open == 0


@pytest.mark.parametrize("processes", [(), ((1, 111),), ((os.getpid(), None),)])
def test_process_memory_is_absent_where_driver_does_not_say(install, processes):
    install(FakeDriver(processes))
    assert memory._process_bytes(DEVICE) is None


def test_process_memory_is_absent_where_driver_refuses(install):
    driver = install(FakeDriver(fault=NVMLError("not supported")))
    assert memory._process_bytes(DEVICE) is None
    assert driver.open == 0


def test_process_memory_is_absent_without_the_library(install):
    install(None)  # what makes Python's import fail
    assert memory._process_bytes(DEVICE) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_measure_reads_three_numbers_off_a_cuda_device(make_config, digits):
    fabric = Fabric(accelerator="cuda", devices=1)
    small, large = (
        measure_discriminator_step(Game(make_config(batch_size=size), digits, fabric))
        for size in (4, 256)
    )
    assert 0 < small.peak_allocated < large.peak_allocated
    for reading in (small, large):
        assert reading.peak_allocated <= reading.peak_reserved
        # The driver also charges the context.
        assert reading.process is None or reading.peak_reserved < reading.process
