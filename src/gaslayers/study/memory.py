"""What one discriminator step takes of an accelerator's memory."""

from __future__ import annotations

import os

import torch

from gaslayers.study.records import MemoryReading
from gaslayers.study.training import Game


def measure_discriminator_step(game: Game) -> MemoryReading | None:
    """Run one more D step on CUDA and read three numbers that mean three things.

    ``peak_allocated`` is what tensors took at most, ``peak_reserved`` what PyTorch's allocator
    held, ``process`` what the driver charges this process for, context included (None where the
    driver does not say): the 2018 study published the last. None on other devices.
    """
    device = game.fabric.device
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    game.discriminator_step(game.config.iterations)
    torch.cuda.synchronize(device)
    return MemoryReading(
        peak_allocated=torch.cuda.max_memory_allocated(device),
        peak_reserved=torch.cuda.max_memory_reserved(device),
        process=_process_bytes(device),
    )


def _process_bytes(device: torch.device) -> int | None:
    """What the driver charges this process for, context included."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        try:
            uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
            handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
            processes = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError:  # a slice of a GPU, for one, has no such reading
        return None
    used = [process.usedGpuMemory for process in processes if process.pid == os.getpid()]
    return int(used[0]) if used and used[0] is not None else None
