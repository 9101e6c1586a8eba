"""Rows of a log that stand in it more than once."""

import dataclasses
from typing import Any

import numpy as np
import polars as pl

from alterrec_jax.errors import UserError
from data_tools import tables
from data_tools.flat_sessions import blocks
from data_tools.tally import Tally

_SHARE_OF_A_COPIED_LOG = 0.5  # of the sessions of two or more different items
_FEWEST_COPIED = 2  # sessions
_SHOWN = 3  # rows in an error


@dataclasses.dataclass(frozen=True)
class Names:
    """What an error names.

    Attributes:
      path: of the interactions.
      columns: the columns whose values a duplicate repeats, as the file calls them.
      sessions, items: str, the ids of the numbers in the table.
    """

    path: str
    columns: tuple[str, ...]
    sessions: pl.Series
    items: pl.Series


def handle(table: pl.DataFrame, rule: str, names: Names, tally: Tally) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Finds duplicate rows, and stops, drops or keeps them.

    With an order, a row is a duplicate where an earlier one has the same session, item and order. Without one, an item
    that comes again in a session is what people do, and single rows say nothing. There a log is a copy where at least
    half of the sessions of two or more items hold each of these items twice (or k times, or a multiple of it).

    Args:
      table: columns session and item (uint32), `tables.ROW`, optionally order, and others; as in the file.
      rule: one of `options.DUPLICATES`.
      names: for the error.
      tally: takes the count of what was dropped.

    Returns:
      the rows that are left; and for the manifest rule, duplicates (how many rows are one) and rows (of how many).

    Raises:
      UserError: there are duplicates, and the rule is "error".
    """
    ordered = "order" in table.columns
    again = _repeated(table) if ordered else _copied(table)
    count = int(again.sum())
    if count and rule == "error":
        raise UserError(_of_rows(table, again, names) if ordered else _of_a_copy(table, again, names))
    if rule == "drop":
        tally.dropped("row that stands there already", count, 0)
    found = {"rule": rule, "duplicates": count, "rows": len(table)}
    return (table.filter(~again) if rule == "drop" and count else table), found


def _repeated(table: pl.DataFrame) -> pl.Series:
    """bool [rows], whether an earlier row has the same session, item and order."""
    again = np.zeros(len(table), bool)
    for rows in blocks(table["session"].to_numpy()):
        first = table.select("session", "item", "order")[rows].select(pl.struct(pl.all()).is_first_distinct())
        again[rows] = ~first.to_series().to_numpy()
    return pl.Series("again", again)


def _copied(table: pl.DataFrame) -> pl.Series:
    """bool [rows], which rows are copies in a log that was copied as a whole; else none."""
    again, session = np.zeros(len(table), bool), table["session"].to_numpy()
    several, least = 0, []
    for rows in blocks(session):
        sessions = (
            _per_item(table[rows])
            .group_by("session")
            .agg(
                pl.col("times").min().alias("least"),
                (pl.col("times") % pl.col("times").min() == 0).all().alias("even"),
                pl.len().alias("items"),
            )
        )
        several += sessions.filter(pl.col("items") > 1).height
        least.append(sessions.filter((pl.col("items") > 1) & pl.col("even") & (pl.col("least") > 1))["least"])
    suspects = pl.concat(least)
    if len(suspects) >= max(_FEWEST_COPIED, _SHARE_OF_A_COPIED_LOG * several):
        copies = int(suspects.mode().min())  # type: ignore[arg-type]  # of integers, which are not empty
        for rows in blocks(session):
            again[rows] = _is_copy(table.select("session", "item")[rows], copies).to_numpy()
    return pl.Series("again", again)


def _per_item(table: pl.DataFrame) -> pl.DataFrame:
    return table.group_by("session", "item").len("times")


def _is_copy(table: pl.DataFrame, copies: int) -> pl.Series:
    """bool [rows], which rows of whole sessions are not the first of so many copies."""
    divisible = _per_item(table).group_by("session").agg((pl.col("times") % copies == 0).all().alias("copied"))
    rows = table.join(divisible, on="session", how="left", maintain_order="left")
    place = pl.int_range(pl.len()).over("session")
    # Either each copy follows its row, or the log was appended to itself, and the first part of it is whole.
    same = pl.col("item") == pl.col("item").shift(1).over("session")
    follows = (same | (place % copies == 0)).all().over("session")
    occurrence, times = pl.int_range(pl.len()).over("session", "item"), pl.len().over("session", "item")
    copy = pl.when(follows).then(place % copies > 0).otherwise(occurrence >= times // copies)
    return rows.select((pl.col("copied") & copy).alias("again")).to_series()


def _of_rows(table: pl.DataFrame, again: pl.Series, names: Names) -> str:
    first = table.filter(again).head(_SHOWN)
    earlier = [
        table.filter(pl.all_horizontal(pl.col(key) == row[key] for key in ("session", "item", "order")))[tables.ROW][0]
        for row in first.iter_rows(named=True)
    ]
    pairs = ", ".join(f"{row} like {other}" for row, other in zip(first[tables.ROW], earlier, strict=True))
    columns = ", ".join(f"'{column}'" for column in names.columns)
    return (
        f"interactions file {names.path}: {int(again.sum()):,} of {len(table):,} rows repeat {columns} of an earlier "
        f"row: data rows {pairs}{' and so on' if int(again.sum()) > _SHOWN else ''} (session "
        f"'{names.sessions[first['session'][0]]}', item '{names.items[first['item'][0]]}'). Take one of each by "
        "--duplicates=drop, or, if each of them counts, all by --duplicates=keep"
    )


def _of_a_copy(table: pl.DataFrame, again: pl.Series, names: Names) -> str:
    first = table.filter(again).head(_SHOWN)
    shown = ", ".join(str(row) for row in first[tables.ROW])
    return (
        f"interactions file {names.path}: most sessions hold each of their items several times over, as if the log "
        f"were there more than once: {int(again.sum()):,} of {len(table):,} rows would be copies, first data rows "
        f"{shown} (session '{names.sessions[first['session'][0]]}'). Drop them by --duplicates=drop, name a time by "
        "--order_column, or, if people did so, keep all by --duplicates=keep"
    )
