"""SIGTERM as a request: training saves first, anything else ends at once, both with status 143."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

TERMINATED = 128 + signal.SIGTERM
"""The status with which shells report a process that SIGTERM ended."""


class Terminated(SystemExit):
    """SIGTERM ended the program; where nobody catches it, the status is 143."""

    def __init__(self) -> None:
        super().__init__(TERMINATED)


class _Requests:
    """What the signal's handler and the code that it interrupts know of each other."""

    is_deferred = False
    has_come = False

    def handle(self, _number: int, _frame: FrameType | None) -> None:
        if not self.is_deferred:
            raise Terminated
        self.has_come = True


_requests = _Requests()


@contextlib.contextmanager
def ending_at_sigterm() -> Iterator[None]:
    """Let SIGTERM raise `Terminated` within, so that files are closed and locks are given back.

    A handler that is there already stays, and so does a signal that is ignored: then another
    program decides. Threads other than the main one cannot have a handler.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _requests.handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def deferring_sigterm() -> Iterator[Callable[[], bool]]:
    """Put `Terminated` off to the end of the block, and tell within whether SIGTERM has come.

    Raises:
        Terminated: SIGTERM came within.
    """
    _requests.is_deferred, _requests.has_come = True, False
    try:
        yield lambda: _requests.has_come
    finally:
        _requests.is_deferred = False
        if _requests.has_come:  # whatever else happened within
            raise Terminated
