"""The resident memory of a fresh process that runs one step."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

_CHILD = """
import pickle, sys
sys.path[:] = pickle.load(sys.stdin.buffer)
from gaslayers.accounting._process import run_and_print_rise
run_and_print_rise()
"""


def process_rise(step: Callable[[], Any]) -> tuple[int | None, str]:
    """Bytes by which the peak of a fresh process rises in the step, or None and why.

    A process of its own, since the peak of this one may lie in the past, and the memory that it
    has freed would be used again.
    """
    try:
        sent = pickle.dumps(sys.path) + pickle.dumps(step)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        return None, f"the step cannot be sent to another process ({error})"
    done = subprocess.run(
        [sys.executable, "-c", _CHILD], input=sent, capture_output=True, check=False
    )
    lines = done.stdout.decode().split()
    if done.returncode != 0 or not lines:
        reason = done.stderr.decode().strip().splitlines()
        return None, f"the step failed in another process ({reason[-1] if reason else 'no word'})"
    return int(lines[-1]), ""


def run_and_print_rise() -> None:
    """In the child: take the step from the standard input, run it, print the rise."""
    import torch  # the parent's step may not load it before the first reading

    torch.zeros(1)
    step = pickle.load(sys.stdin.buffer)
    before = _begin_peak()
    step()
    sys.stdout.write(f"\n{max(0, _peak() - before)}\n")


def _begin_peak() -> int:
    """Forget the peak so far, where the system can, and return what it is now."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _peak()


def _peak() -> int:
    """The highest resident memory of this process, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) * 1024
    import resource  # not on Windows

    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
