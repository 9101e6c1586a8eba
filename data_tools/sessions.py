"""What time does to a log: it makes sessions of a user's interactions, and cuts out a piece of the log.

Times are dates, or numbers whose unit is known: given, or found where all of them lie between 1990 and 2100.
"""

import datetime
import fractions
import math
import re
import zoneinfo

import numpy as np
import polars as pl

from alterrec_jax.errors import UserError
from data_tools import tables
from data_tools.flat_sessions import blocks
from data_tools.options import Options
from data_tools.tally import Tally

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_INSTANTS = (631_152_000, 4_102_444_800)  # 1990 and 2100, in seconds since 1970
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)

Bound = int | float | datetime.datetime


def seconds(gap: str) -> float:
    """The seconds of a duration like 30m.

    Raises:
      UserError: it is no positive number with one of the units s, m, h and d.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", gap)
    if not found or not float(found[1]):
        raise UserError(f"--session_gap={gap} is no duration; write a number and a unit: 90s, 30m, 1.5h or 1d")
    return float(found[1]) * _SECONDS[found[2]]


def bound(given: str, flag: str) -> Bound:
    """The number, or the date, that --since or --until gives.

    Raises:
      UserError: it is neither.
    """
    for number in (int, float):
        try:
            if math.isfinite(found := number(given)):
                return found
        except ValueError:
            continue
    try:
        if re.match(r"\d{4}-\d{2}-\d{2}", given):
            return datetime.datetime.fromisoformat(given)
    except ValueError:
        pass
    raise UserError(f"--{flag}={given} is neither a number nor a date like 2024-03-31 or 2024-03-31T18:05:00")


def needs_unit(options: Options) -> bool:
    """Whether times that are numbers must have a unit: for a gap, or for a bound that is a date."""
    given = [(getattr(options, flag), flag) for flag in ("since", "until")]
    dates = [isinstance(bound(value, flag), datetime.datetime) for value, flag in given if value]
    return bool(options.session_gap) or any(dates)


def unit_of(order: pl.Series, options: Options) -> str:
    """The unit of times that are numbers: s, ms, us or ns; "" where they are dates.

    Args:
      order: integers, floats or times, without nulls.
      options: name the column, and may give its unit.

    Raises:
      UserError: the unit is not given and cannot be found, is given for dates, or these are times of day.
    """
    column = options.order_column
    if order.dtype.is_temporal():
        if order.dtype in (pl.Time, pl.Duration):
            raise UserError(f"column '{column}' is {order.dtype}, which names no day; give another --order_column")
        if options.time_unit:
            raise UserError(f"--time_unit is for times that are numbers, and '{column}' holds dates; leave it out")
        return ""
    if options.time_unit:
        return options.time_unit
    low, high = float(order.min()), float(order.max())  # type: ignore[arg-type]
    for unit, scale in _PER_SECOND.items():
        if _INSTANTS[0] * scale <= low and high < _INSTANTS[1] * scale:
            return unit
    raise UserError(
        f"the unit of column '{column}' (numbers from {low:.17g} to {high:.17g}) cannot be known; give "
        f"--time_unit={', '.join(_PER_SECOND)}"
    )


def by_gap(user: pl.Series, order: pl.Series, options: Options) -> pl.Series:
    """Sessions of the interactions of each user: a new one begins where the step in time is longer than the gap.

    Args:
      user: str or categorical [rows], without nulls.
      order: times [rows], without nulls; equal ones follow each other as the rows do.
      options: the gap, and the unit of the times.

    Returns:
      categorical [rows], the user's name and the number of the session among those of the user, from 1: "ann-1".

    Raises:
      UserError: the unit of the times is not known.
    """
    unit, gap = unit_of(order, options), seconds(options.session_gap)
    step: Bound | datetime.timedelta = gap * _PER_SECOND[unit] if unit else datetime.timedelta(seconds=gap)
    codes = (user if user.dtype == pl.Categorical else user.cast(tables.categories())).to_physical()
    table = pl.DataFrame({"user": codes, "order": order})
    session, names, count = np.empty(len(table), np.uint32), [], 0
    starts = (pl.col("user") != pl.col("user").shift(1)) | (pl.col("order") - pl.col("order").shift(1) > step)
    for numbers in blocks(codes.to_numpy()):
        rows = table[numbers].with_columns(pl.Series("row", numbers)).sort("user", "order", maintain_order=True)
        rows = rows.select("row", "user", starts.fill_null(True).alias("starts"))
        session[rows["row"].to_numpy()] = rows["starts"].cum_sum().to_numpy() - 1 + count
        heads = rows.filter("starts").select("row", pl.int_range(1, pl.len() + 1).over("user").alias("n"))
        name = pl.format("{}-{}", user.gather(heads["row"]).cast(pl.String), "n")
        names.append(heads.select(name).to_series())
        count += len(heads)
    return pl.concat(names).cast(tables.categories()).gather(pl.Series(session))


def within(raw: pl.DataFrame, options: Options, tally: Tally) -> pl.DataFrame:
    """The interactions from --since on and before --until; sessions that cross a border keep what lies inside.

    Args:
      raw: columns session, and order if there is a bound.
      options: the bounds.
      tally: takes what was dropped for each bound.

    Raises:
      UserError: a bound does not fit the times, or nothing is left.
    """
    for flag in ("since", "until"):
        given = getattr(options, flag)
        if not given:
            continue
        time, border = _comparable(raw["order"], bound(given, flag), flag, options)
        kept = raw.filter(time >= border if flag == "since" else time < border)
        if kept.is_empty():
            span = raw.select(pl.format("{} to {}", pl.col("order").min(), pl.col("order").max())).item()
            raise UserError(f"no interaction is left by --{flag}={given}; '{options.order_column}' is from {span}")
        gone = raw["session"].n_unique() - kept["session"].n_unique()
        reason = f"before --since={given}" if flag == "since" else f"at or after --until={given}"
        tally.dropped(reason, len(raw) - len(kept), gone)
        raw = kept
    return raw


def _comparable(order: pl.Series, value: Bound, flag: str, options: Options) -> tuple[pl.Expr, pl.Expr]:
    """The column order and a bound in one unit."""
    time, column, given = pl.col("order"), options.order_column, getattr(options, flag)
    if not isinstance(value, datetime.datetime):
        if order.dtype.is_temporal():
            raise UserError(f"--{flag}={given} is a number, and '{column}' holds dates; write one like 2024-03-31")
        return time, pl.lit(value)
    if unit := unit_of(order, options):
        utc = value if value.tzinfo else value.replace(tzinfo=datetime.UTC)
        exact = fractions.Fraction((utc - _EPOCH) // _MICROSECOND * _PER_SECOND[unit], 10**6)
        return time, pl.lit(exact.numerator if exact.denominator == 1 else float(exact))
    zone = getattr(order.dtype, "time_zone", None)
    if zone:
        local = datetime.UTC if zone == "UTC" else zoneinfo.ZoneInfo(zone)
        value = (value if value.tzinfo else value.replace(tzinfo=local)).astimezone(datetime.UTC)
        return time.dt.convert_time_zone("UTC"), pl.lit(value)
    if value.tzinfo:
        raise UserError(f"--{flag}={given} has a time zone, and '{column}' has none; leave it out")
    return time.cast(pl.Datetime("us")), pl.lit(value)
