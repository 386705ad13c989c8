"""SIGTERM as a request, with real signals sent to this very process."""

from __future__ import annotations

import signal
import sys
import threading

import pytest

from gaslayers.study.stopping import (
    TERMINATED,
    Terminated,
    deferring_sigterm,
    ending_at_sigterm,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGTERM")


@pytest.fixture(autouse=True)
def _default_handler():
    """What a program starts with, and a signal that slips through must not end the tests."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


def test_sigterm_ends_the_block_with_the_status_of_shells():
    with pytest.raises(Terminated) as ended, ending_at_sigterm():
        signal.raise_signal(signal.SIGTERM)
    assert ended.value.code == TERMINATED == 143
    assert isinstance(ended.value, SystemExit)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def defer(error=None):
    """Get the signal twice in a deferring block; whether it was told of, and the block ended."""
    with ending_at_sigterm(), deferring_sigterm() as must_stop:
        told = [must_stop()]
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        told.append(must_stop())
        assert told == [False, True]
        if error is not None:
            raise error


@pytest.mark.parametrize("error", [None, ArithmeticError("of the block")])
def test_deferred_sigterm_lets_the_block_end_whatever_it_ends_in(error):
    with pytest.raises(Terminated) as ended:
        defer(error)
    assert ended.value.__context__ is error


def test_sigterm_ends_at_once_after_a_deferring_block():
    with ending_at_sigterm():
        with deferring_sigterm():
            pass
        with pytest.raises(Terminated):
            signal.raise_signal(signal.SIGTERM)
        with deferring_sigterm() as must_stop:
            assert not must_stop()


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda *_: None], ids=["ignored", "own"])
def test_a_handler_that_is_there_stays(handler):
    signal.signal(signal.SIGTERM, handler)
    with ending_at_sigterm():
        assert signal.getsignal(signal.SIGTERM) is handler
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is handler


def test_a_thread_runs_without_a_handler():
    ran = []

    def work():
        with ending_at_sigterm(), deferring_sigterm() as must_stop:
            ran.append((must_stop(), signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert ran == [(False, signal.SIG_DFL)]
