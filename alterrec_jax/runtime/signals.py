"""SIGTERM, SIGHUP and SIGINT as a wish to stop, to be granted at the next step."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from alterrec_jax.runtime.console import log


@contextlib.contextmanager
def stop_signals(stop: threading.Event, reaction: str = "saving a checkpoint, then stopping") -> Iterator[None]:
    """Within it, SIGTERM, SIGHUP and SIGINT set the event instead of ending the process; a second SIGINT ends it.

    SIGHUP says that the terminal is gone; where it is ignored, as `nohup` has it, it stays so. The line that is logged
    tells the signal and the `reaction` to it. Signals are the main thread's: in any other one nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        log(f"{signal.Signals(number).name}: {reaction}")
        stop.set()

    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
