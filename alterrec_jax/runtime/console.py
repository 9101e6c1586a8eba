"""Progress on everything that takes over two seconds: a bar on a terminal, plain lines elsewhere."""

import contextlib
import errno
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

import tqdm
from absl import logging

from alterrec_jax.runtime.printable import printable

T = TypeVar("T")

_SECONDS_BETWEEN_LINES = 10.0

_silent = False


def be_silent() -> None:
    """From now on this process shows and says nothing: another one does."""
    global _silent
    _silent = True


class _Lines:
    """A text stream that turns a bar's carriage returns into line ends."""

    def write(self, text: str) -> None:
        text = text.strip("\r\n ")
        if text:
            sys.stderr.write(text + "\n")

    def flush(self) -> None:
        sys.stderr.flush()


def progress(
    items: Iterable[T], description: str, *, total: int | None = None, unit: str = "it", initial: int = 0
) -> Iterator[T]:
    """Iterates over `items`, showing how far it is and how long it will take.

    On a terminal this is a bar that disappears when done; without one, a line every ten seconds, so that
    logs of a batch job stay readable. Loops that end within two seconds print nothing.
    """
    terminal = sys.stderr.isatty()
    bar = tqdm.tqdm(
        items,
        desc=description,
        total=total,
        unit=unit,
        initial=initial,
        delay=2.0,
        disable=_silent,
        dynamic_ncols=True,
        leave=False,
        file=None if terminal else _Lines(),
        mininterval=0.2 if terminal else _SECONDS_BETWEEN_LINES,
        bar_format=None
        if terminal
        else "{desc}: {n_fmt}/{total_fmt} {unit} [{elapsed}<{remaining}, {rate_fmt}{postfix}]",
    )
    return iter(bar)


def log(message: str) -> None:
    """Prints one line for the person watching, above any bar, on standard error."""
    if _silent:
        return
    try:
        tqdm.tqdm.write(printable(message), file=sys.stderr)
    except OSError as error:
        if error.errno != errno.EIO:  # the terminal is gone, and nobody watches any more; work goes on, or is saved
            raise


@contextlib.contextmanager
def no_library_warnings() -> Iterator[None]:
    """Within it, libraries that log by absl report errors only."""
    before = logging.get_verbosity()
    logging.set_verbosity(min(before, logging.ERROR))
    try:
        yield
    finally:
        logging.set_verbosity(before)
