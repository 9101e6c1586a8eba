"""Tables that are in memory already, as the files that everything here reads."""

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any, Protocol

import polars as pl

from alterrec_jax.errors import UserError


class PandasFrame(Protocol):
    """What is asked of a DataFrame of pandas."""

    def to_parquet(self, path: Any) -> Any: ...


Table = str | os.PathLike[str] | pl.DataFrame | PandasFrame
"""A file, or a table that is in memory."""


@contextlib.contextmanager
def as_file(table: Table, name: str) -> Iterator[str]:
    """Within it, a file that holds the table: its own, or a temporary Parquet file.

    Args:
      table: a file, or a DataFrame of polars or pandas.
      name: of the table, in errors and in the manifest.

    Raises:
      UserError: it is neither, or pandas cannot write a Parquet file.
    """
    if isinstance(table, str | os.PathLike):
        yield os.fspath(table)
        return
    write = table.write_parquet if isinstance(table, pl.DataFrame) else getattr(table, "to_parquet", None)
    if write is None:
        raise UserError(f"{name} is of type {type(table).__name__}; give a file, or a DataFrame of polars or pandas")
    with tempfile.TemporaryDirectory(prefix="alterrec_jax-") as folder:
        path = pathlib.Path(folder) / f"{name}.parquet"
        try:
            write(path)
        except (ImportError, ValueError, TypeError) as error:  # pandas: nothing to write with, or values of two types
            raise UserError(
                f"{name} cannot be written as Parquet ({error}); save it to a CSV file, and name that"
            ) from None
        yield str(path)
