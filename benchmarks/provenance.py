"""What a benchmark ran on, for the record that its numbers are drawn from."""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch.utils import collect_env

from gaslayers.lean.native import availability

PACKAGES = {
    "torch": "torch",
    "torchvision": "torchvision",
    "lightning_fabric": "lightning-fabric",
    "timm": "timm",
    "torchgan": "torchgan",
    "fvcore": "fvcore",
    "torchinfo": "torchinfo",
    "ptflops": "ptflops",
    "thop": "thop",
    "kitsune": "torch-kitsune",
    "deepspeed": "deepspeed",
    "prdc": "prdc",
    "gaslayers": "gaslayers",
}
"""Distributions by the name that they are imported by."""


def is_installed(package: str) -> bool:
    """Whether this can be imported; a peer that cannot takes no part."""
    return importlib.util.find_spec(package) is not None


def describe_run() -> dict[str, Any]:
    """Machine, versions and commit, and one sentence that names them."""
    machine = {
        "processor": _processor(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "kernels": availability.are_compiled(),
        "cores": os.cpu_count(),
        "load": system_load(),
        "platform": platform.platform(),
    }
    versions = {"python": platform.python_version(), **_versions()}
    commit = _commit()
    named = ", ".join(f"{name} {number}" for name, number in versions.items())
    summary = (
        f"{machine['processor']}, {machine['instructions']}, {machine['cores']} cores, "
        f"{'with' if machine['kernels'] else 'without'} compiled kernels, "
        f"{machine['platform']}; {named}; commit {commit}."
    )
    return {"machine": machine, "versions": versions, "commit": commit, "summary": summary}


def system_load() -> float | None:
    """Processes that wanted to run in the last minute, where the system counts them."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _versions() -> dict[str, str]:
    return {name: version(name) for package, name in PACKAGES.items() if is_installed(package)}


def _processor() -> str:
    lines = collect_env.get_cpu_info(collect_env.run).splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("Model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _commit() -> str | None:
    """The commit, with `-dirty` where files differ from it; None outside a clone."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()
