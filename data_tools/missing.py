"""Values that say that there is none: empty ones, NaN, NULL and their like, wherever they stand."""

from collections.abc import Collection, Iterable, Mapping, Sequence

import polars as pl

from alterrec_jax.errors import UserError
from data_tools import tables
from data_tools.tally import Tally

_REMEDY = "fill them, or drop these rows by --missing_ids=drop; NaN, NULL and what else --null_values names are empty"
_MANTISSA: dict[type[pl.DataType], int] = {
    pl.Float32: 24,
    pl.Float64: 53,
}  # bits: whole numbers up to 2 to this power are exact


def null_values_of(names: str) -> tuple[str, ...]:
    """The distinct values that --null_values names, with commas between; none for ""."""
    return tuple(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))


def as_null(
    table: pl.LazyFrame, columns: Iterable[str], null_values: Sequence[str], *, ids: Collection[str] = ()
) -> pl.LazyFrame:
    """Makes every missing value of some columns null.

    Args:
      table: as `tables.scan` gives it.
      columns: of text, of numbers, or of lists of strings (whose missing elements go). Others stay as they are.
      null_values: texts that count as missing, besides empty and blank ones. A NaN of a float column always does.
      ids: columns whose floats are ids: 7.0, as pandas makes of 7 where another row has none, is read as 7.
    """
    types = table.collect_schema()
    return table.with_columns(_as_null(column, types[column], null_values, column in ids) for column in set(columns))


def count_null_values(table: pl.LazyFrame, null_values: Sequence[str]) -> dict[str, int]:
    """Of each column that has any: how many values are one of `null_values`, or a NaN. Empty ones are not counted."""
    types = table.collect_schema()
    found = {
        column: _stripped(column).is_in(null_values) if _is_text(types[column]) else pl.col(column).is_nan()
        for column in types
        if _is_text(types[column]) or types[column].is_float()
    }
    if not found:
        return {}
    counts = table.select(value.sum().alias(column) for column, value in found.items()).collect(engine="streaming")
    return {column: count for column, count in sorted(counts.row(0, named=True).items()) if count}


def require_exact_ids(table: pl.LazyFrame, columns: Iterable[str], path: str, what: str) -> None:
    """Stops where ids are floats and so large that different ones have become equal.

    Raises:
      UserError: names the column.
    """
    types = table.collect_schema()
    for column in columns:
        if bits := _MANTISSA.get(types[column].base_type()):
            largest = table.select(pl.col(column).fill_nan(None).abs().max()).collect(engine="streaming").item()
            if largest is not None and largest > 2**bits:
                raise UserError(
                    f"{what} file {path}: column '{column}' holds ids as {types[column]}, up to {largest:.0f}; above "
                    f"{2**bits} different ids become one. Write them as text or as integers"
                )


def require_ids(
    table: pl.DataFrame, shown: Mapping[str, str], path: str, *, drop: bool, tally: Tally, empty: int = 0
) -> pl.DataFrame:
    """Counts the rows that are read, and takes out those without an id.

    Args:
      table: the columns of `shown` (categorical, null where missing), `tables.ROW`, and any others.
      shown: of "item" and "session", or of "user" where time makes the sessions, the name of the column in the file.
      path: of the interactions.
      drop: whether such rows are dropped and counted; else they stop the command.
      tally: takes the counts.
      empty: sessions that were read besides, and hold no item.

    Returns:
      the rows that have all of these ids.

    Raises:
      UserError: names the first row without an id, and how many there are; or no row has all.
    """
    names = list(shown)
    tally.total("read", len(table), _sessions(table) + empty)
    for name in names if not drop else ():
        tables.require_no_nulls(table, name, shown[name], path, "interactions", remedy=_REMEDY)
    whole = not any(table[name].has_nulls() for name in names)
    kept = table if whole else table.drop_nulls(names)
    if drop:
        gone = _sessions(table) - _sessions(kept)
        tally.dropped(f"row without a {names[0]} or {names[1]} id", len(table) - len(kept), gone)
    if kept.is_empty():
        raise UserError(
            f"no row of {path} has both a '{shown[names[0]]}' and a '{shown[names[1]]}'; check --{names[0]}_column, "
            f"--{names[1]}_column and --null_values"
        )
    return kept


def _sessions(table: pl.DataFrame) -> int:
    """How many sessions there are by name: none yet where time is to make them."""
    return table["session"].drop_nulls().n_unique() if "session" in table.columns else 0


def _as_null(column: str, dtype: pl.DataType, null_values: Sequence[str], is_id: bool) -> pl.Expr:
    value = pl.col(column)
    if _is_text(dtype):
        return pl.when(~_stripped(column).is_in(["", *null_values])).then(value.cast(pl.String)).alias(column)
    if dtype == pl.List(pl.String):
        known = ~pl.element().str.strip_chars().is_in(["", *null_values])
        return value.list.eval(pl.element().filter(known))
    if dtype.is_float():
        value = value.fill_nan(None)
        if not is_id:
            return value
        whole = value.is_finite() & (value == value.round())
        as_integer = value.cast(pl.Int64, strict=False).cast(pl.String)
        return pl.when(whole).then(as_integer).otherwise(value.cast(pl.String)).alias(column)
    return value


def _is_text(dtype: pl.DataType) -> bool:
    return dtype in (pl.String, pl.Categorical, pl.Enum)


def _stripped(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.String).str.strip_chars()
