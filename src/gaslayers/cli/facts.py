"""What a bug report should say of an installation; it needs torch alone."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from gaslayers.lean.native.report import describe_kernels

_PACKAGES = ("gaslayers", "torch", "torchvision")


def collect_facts() -> dict[str, Any]:
    """Versions, devices, threads and kernels, as JSON takes them."""
    kernels = describe_kernels()
    return {
        "versions": {
            **{name: _version(name) for name in _PACKAGES},
            "python": platform.python_version(),
        },
        "system": platform.platform(),
        "devices": _devices(),
        "threads": {"pytorch": torch.get_num_threads(), "processors": os.cpu_count()},
        "kernels": {
            "capability": kernels.capability,
            "running": kernels.running,
            "levels": kernels.levels,
            "families": kernels.families,
        },
    }


def facts_as_text(facts: dict[str, Any]) -> str:
    """Lines to paste into a bug report."""
    kernels, threads = facts["kernels"], facts["threads"]
    rows = [
        *((name, number or "not installed") for name, number in facts["versions"].items()),
        ("system", facts["system"]),
        *(("device", device) for device in facts["devices"]),
        ("threads", f"{threads['pytorch']} of PyTorch, {threads['processors']} processors"),
        ("capability", kernels["capability"]),
        ("kernels", kernels["running"] or "none run"),
        *((f"  {level}", state) for level, state in kernels["levels"].items()),
        *((f"  {family}", state) for family, state in kernels["families"].items()),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _devices() -> list[str]:
    names = [f"cpu: {_processor()}"]
    names += [
        f"cuda:{index}: {torch.cuda.get_device_name(index)}"
        for index in range(torch.cuda.device_count())
    ]
    if torch.backends.mps.is_available():
        names.append("mps")
    return names


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
