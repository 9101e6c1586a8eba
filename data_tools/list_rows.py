"""Rows that hold a whole session: a list of items in each, taken apart so that an item is a row.

A list is one of a Parquet, a sequence of one of RecBole's atomic files, or a text that --list_separator takes apart.
"""

from collections.abc import Sequence

import polars as pl

from alterrec_jax.errors import UserError
from data_tools import separated
from data_tools.options import Options

WHAT = "interactions"
POSITION = "position"  # of an item in the list of its row


def listed_columns(options: Options, schema: pl.Schema, wanted: Sequence[str], path: str) -> tuple[str, ...]:
    """The columns that hold lists; none, or the item column and perhaps others.

    Args:
      options: of --source=tabular.
      schema: the columns of the files.
      wanted: those that are to be read.
      path: names the file in errors.

    Raises:
      UserError: a list stands where none can be read, or a value for a whole list where each item needs its own.
    """
    typed = [column for column in wanted if isinstance(schema[column], pl.List | pl.Array)]
    item = options.item_column
    if options.list_separator:
        if schema[item] != pl.String:
            raise UserError(f"{WHAT} file {path}: '{item}' is {schema[item]}, no text; leave --list_separator out")
        typed.append(item)
    if not typed:
        return ()
    if options.session_gap:
        raise UserError(
            f"{WHAT} file {path}: '{typed[0]}' holds lists, whose row is a session; leave --session_gap out"
        )
    may_be = {item, options.order_column, options.interaction_price_column}
    for column in typed:
        if column not in may_be or item not in typed:
            raise UserError(f"{WHAT} file {path}: '{column}' holds lists; only with lists of items can others be lists")
    if (price := options.interaction_price_column) and price not in typed:
        raise UserError(f"{WHAT} file {path}: '{price}' has one price for a whole list of items; give a list of prices")
    return tuple(dict.fromkeys(typed))


def one_item_a_row(part: pl.LazyFrame, item: str, listed: Sequence[str], separator: str) -> pl.LazyFrame:
    """Takes lists apart, so that each item has a row.

    Args:
      part: the table of a file, with its rows.
      item: its item column.
      listed: all columns that hold lists, of equal lengths in each row.
      separator: as --list_separator gives it, where items are text.

    Returns:
      The columns of the table, and position (uint32, from 0 in each list). An empty list has one row,
      whose position is null.
    """
    character = separated.character(separator, "list_separator")
    columns = {column: pl.col(column) for column in listed}
    schema = part.collect_schema()
    for column in listed:
        if isinstance(schema[column], pl.Array):
            columns[column] = pl.col(column).arr.to_list()
    if separator:
        text = pl.col(item).str.strip_chars(" []()")  # as Python and JSON print a list
        split = text.str.extract_all(r"\S+") if character == " " else text.str.split(character)
        columns[item] = pl.when(text != "").then(split)
    part = part.with_columns(values.alias(column) for column, values in columns.items())
    length = pl.col(item).list.len()
    part = part.with_columns(pl.when(length > 0).then(pl.int_ranges(0, length, dtype=pl.UInt32)).alias(POSITION))
    part = part.explode(*listed, POSITION, empty_as_null=True, keep_nulls=True)
    return part.with_columns(pl.col(item).str.strip_chars(" '\"")) if separator else part


def require_one_row(table: pl.DataFrame, shown: str, path: str) -> None:
    """Stops where two rows with lists are of one session.

    Args:
      table: columns session and position.
      shown, path: name the column and the file.

    Raises:
      UserError: names the first such session.
    """
    first = table.lazy().filter(pl.col(POSITION) == 0).select("session")
    twice = first.filter(pl.col("session").is_duplicated()).collect()["session"].drop_nulls()
    if len(twice):
        raise UserError(
            f"{WHAT} file {path}: session '{twice[0]}' has more than one row with a list ({len(twice)} such rows); a "
            f"row is a whole session, so its id stands once in '{shown}' (where rows are beginnings of one session, "
            "as some benchmarks store them, keep the longest)"
        )
