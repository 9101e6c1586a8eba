"""Reads CSV, CSV.gz and Parquet with Polars, and turns what is wrong with a file into one clear line."""

import contextlib
import functools
import pathlib
from collections.abc import Callable, Iterator, Sequence

import polars as pl

from alterrec_jax.errors import UserError, nearest
from alterrec_jax.runtime.polars_errors import panics_as_errors
from data_tools import csv_lines, order_checks, separated

ROW = "row of the file"  # the column that `with_rows` adds: no file has one of that name
_ISO_DATE = r"^\d{4}-\d{2}-\d{2}"
Reading = Callable[[pl.Expr], pl.Expr]  # from the texts of an order to values
_EXAMPLES = "numbers, or dates like 2024-03-31 or 2024-03-31 18:05:00"


def scan(path: str, what: str, columns: Sequence[str] = (), separator: str = "") -> pl.LazyFrame:
    """A lazy table of `path`; the first bytes tell the kind of the file, not its name.

    CSV columns are all strings, so that an id keeps its leading zeros. Those of RecBole's atomic files lose the types
    that stand behind their names, and its sequences are lists of strings.

    Args:
      path: the file.
      what: names it in errors, say "interactions".
      columns: columns that must be there.
      separator: one character between the values of a CSV; "" finds it.

    Raises:
      UserError: the file or a column is missing, the file cannot be read, its separator is ambiguous, or two of its
        columns have a wanted name.
    """
    separator = separator_of(path, what, columns, separator)
    with readable(path, what, separator):
        if not separator:
            table = pl.scan_parquet(path, glob=False)
        else:
            table = pl.scan_csv(path, infer_schema=False, glob=False, separator=separator)
            table = separated.without_types(table, table.collect_schema().names(), path, what)
        names = table.collect_schema().names()
    if not all(name.replace("\ufffd", "\x00").isprintable() for name in names):
        raise UserError(
            f"{what} file {path} does not begin with a line of column names; is it CSV in UTF-8, or Parquet?"
        )
    for column in columns:
        if column not in names:
            raise UserError(f"{what} file {path} has no column '{column}'; {nearest(column, names)}")
        if separator and f"{column}_duplicated_0" in names:  # as Polars calls a second one
            _require_one_of_a_name(column, path, what, separator)
    return table


def separator_of(path: str, what: str, columns: Sequence[str], given: str = "") -> str:
    """The separator of a CSV, given or else found; "" where the file is Parquet.

    Raises:
      UserError: the file is missing or cannot be read, or its separator is ambiguous.
    """
    if not pathlib.Path(path).is_file():
        raise UserError(f"{what} file not found: {path or '(none named)'}")
    with readable(path, what, ""):
        with open(path, "rb") as file:
            parquet = file.read(4) == b"PAR1"
        return "" if parquet else given or separated.find(path, what, columns)


def _require_one_of_a_name(column: str, path: str, what: str, separator: str) -> None:
    header = csv_lines.header(path, separator)
    numbers = [str(number) for number, name in enumerate(header, 1) if name == column]
    if len(numbers) > 1:
        raise UserError(
            f"{what} file {path}, line 1: columns {' and '.join(numbers)} are both called '{column}'; rename one of "
            "them, or take it out"
        )


def collect(table: pl.LazyFrame, path: str, what: str, separator: str = ",") -> pl.DataFrame:
    """Reads a lazy table in a streaming way.

    Raises:
      UserError: the file is truncated, not UTF-8, or otherwise damaged.
    """
    with readable(path, what, separator):
        return table.collect(engine="streaming")


def categories() -> pl.Categorical:
    """A type for texts of which many are equal, ids say: 32 bits a value, and each text once."""
    return pl.Categorical(pl.Categories.random())


def concat(frames: list[pl.DataFrame]) -> pl.DataFrame:
    """One table of several, which lose their columns to it one after another: two copies of one are held, not of all.

    Args:
      frames: tables of the same columns, at least one; they are empty afterwards.
    """
    return pl.DataFrame(
        [pl.concat([frame.drop_in_place(name) for frame in frames], rechunk=True) for name in frames[0].columns]
    )


def require_no_surplus(path: str, what: str, separator: str) -> None:
    """Stops where a row of a CSV has more values than there are columns. Where not all columns are read, Polars cuts
    such a row, whose values stand in the wrong columns.

    Raises:
      UserError: names the line.
    """
    if separator:
        collect(
            pl.scan_csv(path, infer_schema=False, glob=False, separator=separator).select(pl.all().null_count()),
            path,
            what,
            separator,
        )


@contextlib.contextmanager
def readable(path: str, what: str, separator: str = ",") -> Iterator[None]:
    """Turns an error of Polars in the block into a line that names the file, and the line of a CSV.

    `separator` is that of the CSV; "" where the file is none.
    """
    try:
        with panics_as_errors():
            yield
    except (pl.exceptions.PolarsError, OSError, EOFError, UnicodeError) as error:
        detail = str(error).strip().splitlines()[0].rstrip(".,;: ") if str(error).strip() else type(error).__name__
        detail = (csv_lines.first_fault(path, separator) if separator else "") or detail
        raise UserError(
            f"{what} file {path} cannot be read ({detail}); it must be whole, and CSV, CSV.gz (UTF-8) or Parquet"
        ) from None


def with_rows(table: pl.LazyFrame) -> pl.LazyFrame:
    """The table of a file with the numbers of its rows, from 1, for errors to tell after some are left out."""
    return table.with_row_index(ROW, offset=1)


def require_no_nulls(
    table: pl.DataFrame, column: str, shown: str, path: str, what: str, *, remedy: str = "fill or remove them"
) -> None:
    """Stops where `column` (called `shown` in the file) has an empty value.

    Args:
      table: all rows of the file, or some of them and their numbers from `with_rows`.
      column, shown, path, what: name the column and the file.
      remedy: what to do about it.

    Raises:
      UserError: names the first such row and how many there are.
    """
    if missing := table[column].null_count():
        first = int(table[column].is_null().arg_max() or 0)
        row = table[ROW][first] if ROW in table.columns else first + 1
        raise UserError(
            f"{what} file {path}: column '{shown}' is empty in {missing} of {len(table)} rows, first in data row "
            f"{row}; {remedy} (a file cut off in its last row looks like this too)"
        )


def order_values(values: pl.Series, shown: str, path: str, rows: pl.Series) -> pl.Series:
    """The order column as integers, floats or times, whichever holds all of its values.

    Of dates written out only the ISO form is read: whether 03/04/2024 is in March or in April cannot be known.

    Args:
      values: as they stand in the file; no nulls.
      shown, path: name the column and the file.
      rows: the number of each value's row, for the errors.

    Raises:
      UserError: a value is not finite, or neither a number nor an ISO date; or dates and times are mixed, or units.
    """
    if values.dtype == pl.String:
        parsed = _parse(values)
        if parsed is None:
            row = _first_bad(values)
            raise UserError(
                f"interactions file {path}: column '{shown}' is neither all numbers nor all ISO dates, first in data "
                f"row {rows[row]} with '{values[row]}'; write {_EXAMPLES}, or choose another --order_column"
            )
        order_checks.require_one_precision(values, shown, path, rows)
        values = parsed
    elif not (values.dtype.is_numeric() or values.dtype.is_temporal()):
        raise UserError(f"interactions file {path}: column '{shown}' is {values.dtype}, not a number or a time")
    if values.dtype.is_float() and not values.is_finite().all():
        row = rows[int((~values.is_finite()).arg_max() or 0)]
        raise UserError(
            f"interactions file {path}: column '{shown}' holds an infinity in data row {row}; remove such rows"
        )
    order_checks.require_one_unit(values, shown, path, rows)
    return values


def order_readings(first: str) -> list[Reading]:
    """How to read an order that is text: as `order_values` would, but while it is read, so that no text is held.

    Args:
      first: of the values.

    Returns:
      What makes a value of a text, null where the text is of another kind. The first of them that leaves no value
      null is the way to read all; where none does, the texts are for `order_values`, which says what is wrong.
    """
    text = pl.Series([first])
    kinds = [dtype for dtype in (pl.Int64(), pl.Float64()) if not text.cast(dtype, strict=False).has_nulls()]
    if kinds:
        return [functools.partial(_as_number, dtype=dtype) for dtype in kinds]
    time = _times(text)
    return [] if time.has_nulls() else [functools.partial(_as_time, first=first, dtype=time.dtype)]


def _as_number(text: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    return text.cast(dtype, strict=False)


def _as_time(text: pl.Expr, first: str, dtype: pl.DataType) -> pl.Expr:
    """Dates, or dates with a time, like the first one: its form is that of all."""

    def times(texts: pl.Series) -> pl.Series:
        same = order_checks.is_date(texts) == order_checks.is_date(pl.Series([first]))[0]
        found = _times(pl.concat([pl.Series(texts.name, [first]), texts.set(~same, None)]))
        return found.slice(1).cast(dtype)

    return text.map_batches(times, return_dtype=dtype, is_elementwise=True)


def _parse(values: pl.Series) -> pl.Series | None:
    for dtype in (pl.Int64, pl.Float64):
        numbers = values.cast(dtype, strict=False)
        if not numbers.has_nulls():
            return numbers
    times = _times(values)
    return None if times.has_nulls() else times


def _times(values: pl.Series) -> pl.Series:
    """The values that are ISO dates or times, as times; the others as null."""
    iso = values.set(~values.str.contains(_ISO_DATE), None)
    try:
        return iso.str.to_datetime(strict=False, time_unit="us")
    except pl.exceptions.PolarsError:  # not even the first of them has a form that Polars knows
        return pl.Series(values.name, [None] * len(values), pl.Datetime("us"))


def _first_bad(values: pl.Series) -> int:
    """The row of the first value that is not of the kind (number or date) that the first value is."""
    numbers = values.cast(pl.Float64, strict=False)
    read = _times(values) if numbers[0] is None else numbers
    return int(read.is_null().arg_max() or 0)
