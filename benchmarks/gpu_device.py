"""What a device is, and what drives it, looked at in a process of its own.

    python -m benchmarks.gpu_device --device cuda --out device.json

A driver that does not answer then holds nothing up, and who asks has no context on the device.
"""

from __future__ import annotations

import importlib
import json
import platform
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.provenance import describe_run
from gaslayers.study.records import write_atomically


def describe_device(device: str) -> dict[str, Any]:
    """Its name and, on CUDA, its memory and the versions that its numbers depend on."""
    if device != "cuda":
        return {"name": platform.machine(), "kind": device}
    properties = torch.cuda.get_device_properties(torch.device("cuda"))
    return {
        "name": properties.name,
        "kind": "cuda",
        "memory": properties.total_memory,
        "capability": f"{properties.major}.{properties.minor}",
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "driver": _driver(),
        "tf32_convolutions": torch.backends.cudnn.allow_tf32,
    }


def _driver() -> str | None:
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
        try:
            return str(nvml.nvmlSystemGetDriverVersion())
        finally:
            nvml.nvmlShutdown()
    except nvml.NVMLError:
        return None


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cuda",
    out: Annotated[Path, typer.Option(help="The JSON file.")] = Path("gpu_device.json"),
) -> None:
    """Describe the device, or say that there is none."""
    result: dict[str, Any] = {"torch": torch.__version__}
    if device != "cuda" or torch.cuda.is_available():
        result |= {"run": describe_run(), "device": describe_device(device)}
    write_atomically(out, (json.dumps(result, indent=1) + "\n").encode())


if __name__ == "__main__":
    app()
