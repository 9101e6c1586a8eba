"""Polars on damaged files: some make it panic, which is no exception of Python's and prints pages of its own."""

import contextlib
import os
import sys
from collections.abc import Iterator

import polars as pl

_STDERR = 2


@contextlib.contextmanager
def panics_as_errors() -> Iterator[None]:
    """Raises an OSError where Polars panics in the block. Nothing reaches standard error meanwhile."""
    try:
        with _silent():
            yield
    except pl.exceptions.PanicException as error:
        raise OSError(f"Polars gave up on it: {error}") from None


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Standard error leads nowhere: Polars writes there from threads that know nothing of Python's sys.stderr."""
    sys.stderr.flush()
    shown, nowhere = os.dup(_STDERR), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, _STDERR)
        yield
    finally:
        os.dup2(shown, _STDERR)
        os.close(shown)
        os.close(nowhere)
