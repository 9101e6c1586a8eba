"""Polars on damaged files: some make it panic, which is no exception of Python's and prints pages of its own."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

import polars as pl

_STDERR = 2


@contextlib.contextmanager
def panics_as_errors() -> Iterator[None]:
    """Raises an OSError where Polars raises a Rust panic in the block.

    What is written to standard error in the block is shown at its end; after a panic it is the panic's, and is not.
    """
    with tempfile.TemporaryFile() as written:
        panicked = False
        try:
            with _stderr_to(written.fileno()):
                yield
        except pl.exceptions.PanicException as error:
            panicked = True
            raise OSError(f"Polars gave up on it: {error}") from None
        finally:
            written.seek(0)
            text = written.read().decode(errors="replace")
            if text and not panicked and sys.stderr is not None:
                sys.stderr.write(text)


@contextlib.contextmanager
def _stderr_to(file: int) -> Iterator[None]:
    """Redirects the descriptor itself, for Polars writes from threads that know nothing of sys.stderr."""
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
        shown = os.dup(_STDERR)
    except OSError:  # standard error is closed: nothing would be seen
        yield
        return
    try:
        os.dup2(file, _STDERR)
        yield
    finally:
        if sys.stderr is not None:
            sys.stderr.flush()
        os.dup2(shown, _STDERR)
        os.close(shown)
