"""Signals that ask to stop, and a terminal that is gone."""

import errno
import io
import signal
import sys
import threading
from collections.abc import Iterator

import pytest

from alterrec_jax.runtime import console
from alterrec_jax.runtime.signals import stop_signals


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Those of before the test stand after it; SIGHUP, which is ignored where tests run under nohup, is not within."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_is_a_wish_to_stop(number: signal.Signals) -> None:
    stop, before = threading.Event(), signal.getsignal(number)
    with stop_signals(stop):
        signal.raise_signal(number)
        assert stop.is_set()
    assert signal.getsignal(number) == before


def test_under_nohup_a_terminal_may_go() -> None:
    stop = threading.Event()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with stop_signals(stop):
        signal.raise_signal(signal.SIGHUP)
    assert not stop.is_set() and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


class Gone(io.StringIO):
    """A terminal that was closed."""

    def write(self, text: str, /) -> int:
        """As the system answers."""
        raise OSError(errno.EIO, "Input/output error")


def test_what_is_said_to_a_terminal_that_is_gone_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", Gone())
        with stop_signals(stop):
            signal.raise_signal(signal.SIGHUP)
        assert list(console.progress(range(3), "work")) == [0, 1, 2]
    assert stop.is_set()
