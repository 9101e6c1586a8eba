"""What the host does with memory and with steps under way. By default both cost steps on a CPU much of their time."""

import contextlib
import ctypes

import jax

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # glibc's names for what mallopt sets


def keep_freed_memory() -> None:
    """Lets the process keep what it frees, where the C library is glibc; elsewhere does nothing.

    A train step needs buffers of tens of megabytes. By default they go back to the system after every step, which
    hands them out again page by page, filled with zeros: that takes longer than most of what is computed in them.
    """
    with contextlib.suppress(OSError, TypeError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for setting, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 2**26)):
            mallopt(setting, value)


def give_back_freed_memory() -> None:
    """Returns to the system what the process has freed, where the C library is glibc; elsewhere does nothing.

    Compiling leaves hundreds of megabytes in the heaps of its threads, in pieces that no array fits into.
    """
    with contextlib.suppress(OSError, TypeError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def steps_in_flight() -> int:
    """How many steps may be under way at once: on a CPU they would take the caches from one another."""
    return 1 if jax.default_backend() == "cpu" else 16
