"""A user's own logs: one file of interactions, one of items, each CSV, CSV.gz or Parquet."""

import pathlib
from collections.abc import Sequence
from typing import Any

import polars as pl

from alterrec_jax.errors import UserError
from alterrec_jax.runtime import files
from data_tools import csv_lines, duplicates, further_vectors, item_features, item_texts, missing, order_checks, tables
from data_tools.logs import Logs, number_sessions, order_sessions
from data_tools.options import Options
from data_tools.tally import Tally


def read(options: Options, tally: Tally) -> Logs:
    """Reads the interactions and items that the flags name.

    Raises:
      UserError: a file or column is missing or cannot be read, an id or order is empty or of mixed units, an item id
        or a whole row stands twice, an interaction's item has no row, a session has two users or splits, a price is no
        number, or vectors do not fit.
    """
    for name in ("interactions", "items"):
        if not getattr(options, name):
            raise UserError(f"--{name} is missing; name the file (CSV, CSV.gz or Parquet)")
    text_columns = item_texts.text_columns_of(options.text_columns or "title")
    null_values = missing.null_values_of(options.null_values)
    id_column = options.items_id_column or options.item_column
    items = item_texts.read_items(
        options.items,
        id_column=id_column,
        text_columns=text_columns,
        name_column=options.name_column or text_columns[0],
        null_values=null_values,
    )
    csv_lines.require_no_swallowed_rows(options.items, "items", len(items), {id_column: items["item_id"]})
    columns = item_features.FeatureColumns.of(options)
    features, attributes = item_features.read_features(options.items, columns, null_values)
    described = tables.scan(options.items, "items").select(list(dict.fromkeys([*text_columns, *columns.named()])))
    replaced = missing.count_null_values(described, null_values)
    text_columns = tuple(items.columns[2:])
    items = pl.concat([items, features], how="horizontal")
    vector_files = further_vectors.named_files(options.vectors)
    vectors = further_vectors.read_named(vector_files, len(items))
    raw, price = _read_interactions(options, null_values, tally)
    raw = _known(raw, items, options, tally)
    numbered, sessions = number_sessions(raw)
    for name, flag in (("user", "user_column"), ("split", "split_column")):
        if name in raw.columns:
            _require_one(raw, name, getattr(options, flag))
    order = raw["order"] if "order" in raw.columns else None
    found = {"null_values": replaced, "midnights": {} if order is None else order_checks.midnights(order)}
    del raw, order
    named = (options.session_column, options.item_column, *filter(None, [options.order_column]))
    names = duplicates.Names(options.interactions, named, sessions["session_id"], items["item_id"])
    numbered, found["duplicates"] = duplicates.handle(numbered, options.duplicates, names, tally)
    interactions, ties = order_sessions(numbered, item_ids=items["item_id"], ties=options.ties, seed=options.seed)
    paths = (options.interactions, options.items, *vector_files.values())
    return Logs(
        interactions=interactions,
        sessions=sessions,
        items=items,
        text_columns=text_columns,
        order={"rule": _order_rule(options), **ties},
        provenance={
            "source_files": {pathlib.Path(path).name: files.sha256_file(path) for path in paths},
            "found": found,
        },
        attributes={**attributes, **price},
        vectors=vectors,
    )


def _read_interactions(
    options: Options, null_values: Sequence[str], tally: Tally
) -> tuple[pl.DataFrame, dict[str, dict[str, Any]]]:
    """Columns session, item, `tables.ROW`, and where named user, order, split and price; and the note on the price."""
    names = {"session": options.session_column, "item": options.item_column}
    if options.user_column:
        names["user"] = options.user_column
    if options.split == "column":
        if not options.split_column:
            raise UserError("--split=column needs --split_column, a column with train, validation or test")
        names["split"] = options.split_column
    path, what = options.interactions, "interactions"
    values = {"order": options.order_column, "price": options.interaction_price_column}
    values = {name: shown for name, shown in values.items() if shown}
    wanted = [*names.values(), *values.values()]
    expressions = [tables.ids(shown).alias(name) for name, shown in names.items()]
    expressions += [pl.col(shown).alias(name) for name, shown in values.items()]
    scanned = tables.scan(path, what, wanted)
    missing.require_exact_ids(scanned, names.values(), path, what)
    scanned = missing.as_null(tables.with_rows(scanned), wanted, null_values, ids=names.values())
    table = tables.collect(scanned.select(tables.ROW, *expressions), path, what)
    if table.is_empty():
        raise UserError(f"interactions file {path} has no rows")
    ids = {names[name]: table[name] for name in ("session", "item")}
    csv_lines.require_no_swallowed_rows(path, what, len(table), ids)
    table = missing.require_ids(table, names, path, drop=options.missing_ids == "drop", tally=tally)
    for name, shown in (("split", options.split_column), ("order", options.order_column)):
        if name in table.columns:
            tables.require_no_nulls(table, name, shown, path, what)
    if options.order_column:
        order = tables.order_values(table["order"], options.order_column, path, table[tables.ROW])
        table = table.with_columns(order.alias("order"))
    return _with_prices(table, options)


def _with_prices(table: pl.DataFrame, options: Options) -> tuple[pl.DataFrame, dict[str, dict[str, Any]]]:
    column = options.interaction_price_column
    if not column:
        return table, {}
    what = f"interactions file {options.interactions}"
    price, unknown = item_features.positive_prices(table["price"], what, column, table[tables.ROW])
    rule = f"median over training interactions; {item_features.PRICE_RULE}"
    note = {"price": {"column": column, "rule": rule, "not_positive": unknown}}
    return table.with_columns(price.alias("price")), note


def _known(table: pl.DataFrame, items: pl.DataFrame, options: Options, tally: Tally) -> pl.DataFrame:
    """Replaces each item id by its row in the items, or stops (or drops) where there is none."""
    numbers = items.select(pl.col("item_id").alias("item")).with_row_index("number")
    joined = table.join(numbers, on="item", how="left", maintain_order="left")
    unknown = joined.filter(pl.col("number").is_null())
    if len(unknown) and not options.drop_unknown_items:
        raise UserError(
            f"item '{unknown['item'][0]}' of {options.interactions} (data row {unknown[tables.ROW][0]}) has no row in "
            f"{options.items} (in all {unknown['item'].n_unique()} such items in {len(unknown)} interactions); "
            "add their rows, or drop the interactions with --drop_unknown_items"
        )
    known = joined.filter(pl.col("number").is_not_null()).drop("item").rename({"number": "item"})
    if known.is_empty():
        raise UserError(
            f"no interaction of {options.interactions} has an item of {options.items}; check --item_column and "
            "--items_id_column"
        )
    gone = joined["session"].n_unique() - known["session"].n_unique() if len(unknown) else 0
    tally.dropped("item without a row in the items", len(unknown), gone)
    return known


def _require_one(raw: pl.DataFrame, name: str, shown: str) -> None:
    pairs = raw.select("session", name).unique()
    twice = pairs.filter(pl.col("session").is_duplicated()).sort("session")
    if len(twice):
        raise UserError(
            f"column '{shown}' has more than one value in {twice['session'].n_unique()} sessions, first in session "
            f"'{twice['session'][0]}'; a session has one {name}"
        )


def _order_rule(options: Options) -> str:
    tie = "the order of the file" if options.ties == "file" else f"a random order (seed {options.seed})"
    if not options.order_column:
        return f"{tie}, for no --order_column is given"
    return f"by column '{options.order_column}', ties by {tie}"
