"""Orders that are not what they seem: seconds among milliseconds, days among times."""

import functools
import operator
from typing import Any

import polars as pl

from alterrec_jax.errors import UserError

_UNITS = ("seconds", "milliseconds", "microseconds", "nanoseconds")
_EARLIEST, _LATEST = 3e8, 4.2e9  # 1979 and 2103, in seconds since 1970
_DAY = 86_400
_LENGTH_OF_A_DATE = len("2024-03-31")
_ODD_MIDNIGHTS, _FEWEST = 0.05, 20  # of the rows; one time in 86,400 is midnight by chance


def require_one_unit(values: pl.Series, shown: str, path: str, rows: pl.Series) -> None:
    """Stops where times since 1970 are counted in two units.

    Seconds, milliseconds, microseconds and nanoseconds of our time lie far apart. Values in two of these ranges, and
    none between them, are a mixture; positions, dates and other numbers are not.

    Args:
      values: integers, floats, or times (whose numbers are looked at: seconds that were read as milliseconds are in
        January 1970); no nulls.
      shown, path: name the column and the file.
      rows: the number of each value's row, for the error.

    Raises:
      UserError: names the units, how many rows have each, and the first rows.
    """
    if not (values.dtype.is_numeric() or values.dtype == pl.Datetime):
        return
    numbers = values.to_physical() if values.dtype == pl.Datetime else values
    factors = [1000.0**power for power in range(len(_UNITS))]
    inside = [(numbers >= _EARLIEST * factor) & (numbers <= _LATEST * factor) for factor in factors]
    present = [power for power, unit in enumerate(inside) if unit.any()]
    if len(present) < 2:
        return
    low, high = _LATEST * factors[present[0]], _EARLIEST * factors[present[-1]]
    unit_of_some = functools.reduce(operator.or_, inside)
    if ((numbers > low) & (numbers < high) & ~unit_of_some).any():
        return  # numbers of all sizes, which are no times
    firsts = {power: int(inside[power].arg_max() or 0) for power in present}
    parts = [
        f"{_UNITS[power]} since 1970 in {int(inside[power].sum()):,} rows, first in data row "
        f"{rows[first]} with {values[first]}"
        for power, first in firsts.items()
    ]
    raise UserError(
        f"interactions file {path}: column '{shown}' mixes units: {'; '.join(parts)}. Write all of them in one unit"
    )


def require_one_precision(texts: pl.Series, shown: str, path: str, rows: pl.Series) -> None:
    """Stops where some values are dates without a time and others have one: a date counts as its first second.

    Args:
      texts: numbers, or dates in ISO form, as written; no nulls.
      shown, path: name the column and the file.
      rows: the number of each value's row, for the error.

    Raises:
      UserError: names the first row of each kind, and how many there are.
    """
    short = is_date(texts)
    if not short.any() or short.all():
        return
    date, time = int(short.arg_max() or 0), int((~short).arg_max() or 0)
    raise UserError(
        f"interactions file {path}: column '{shown}' has a date without a time in {int(short.sum()):,} of "
        f"{len(texts):,} rows, first in data row {rows[date]} with '{texts[date]}', and a time in the others, first in "
        f"data row {rows[time]} with '{texts[time]}'; they would come first on their day. Give all rows a time, or cut "
        "all to dates"
    )


def is_date(texts: pl.Series) -> pl.Series:
    """bool, which texts are a date in ISO form without a time."""
    return (texts.str.len_bytes() == _LENGTH_OF_A_DATE) & texts.str.contains(r"^\d{4}-\d{2}-\d{2}$")


def midnights(values: pl.Series) -> dict[str, Any]:
    """How many times are midnight, where these are too many for chance and others are not: days among times.

    Args:
      values: as `require_one_unit` takes them, in one unit.

    Returns:
      rows and midnight, counts; empty where nothing is odd.
    """
    if values.dtype == pl.Datetime:
        numbers, second = values.dt.epoch("us"), 1e6
    elif values.dtype.is_integer():
        numbers = values
        inside = (second for second in (1e0, 1e3, 1e6, 1e9) if _in_range(values, second))
        second = next(inside, 0.0)
    else:
        return {}
    if not second:
        return {}
    midnight = numbers % int(_DAY * second) == 0
    count = int(midnight.sum())
    if count < max(_FEWEST, _ODD_MIDNIGHTS * len(values)) or count == len(values):
        return {}
    # Times that are cut to the hour are midnight often enough, and no mixture.
    if (numbers.filter(~midnight) % int(3600 * second) == 0).all():
        return {}
    return {"rows": len(values), "midnight": count}


def _in_range(values: pl.Series, second: float) -> bool:
    return bool(((values >= _EARLIEST * second) & (values <= _LATEST * second)).all())
