"""A user's own logs: files of interactions, and one of items, each of separated values or Parquet.

What happens to interactions, in this order:
  1. the files are found, and their columns read; rows that hold lists become one row an item; rows without ids;
  2. sessions: by a column, by the row, or by a gap in the time of a user;
  3. --since and --until;
  4. items without a row in the items, and then duplicates, stop the preparation, or go;
  5. each session is ordered, and repeats collapsed.
The pipeline does the rest for every source: session lengths, the split, and, by training alone, rare items or the core.
docs/own_data.md tells users of this order.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from alterrec_jax.data.dataset_files import TEXT
from alterrec_jax.errors import UserError
from alterrec_jax.runtime import files
from data_tools import (
    csv_lines,
    duplicates,
    further_vectors,
    inputs,
    item_features,
    item_texts,
    missing,
    order_checks,
    separated,
    sessions,
    tables,
    text_features,
)
from data_tools.inputs import Columns, Interactions
from data_tools.list_rows import POSITION, WHAT
from data_tools.logs import Logs, number_sessions, order_sessions
from data_tools.options import Options
from data_tools.tally import Tally


def read(options: Options, tally: Tally) -> Logs:
    """Reads the interactions and items that the flags name.

    Raises:
      UserError: a file or column is missing or cannot be read, files or times do not fit, an id or order is empty or
        of mixed units, an item id or a whole row stands twice, an interaction's item has no row, a session has two
        users or splits, a price is no number, or vectors do not fit.
    """
    for name in ("interactions", "items"):
        if not getattr(options, name):
            raise UserError(f"--{name} is missing; name the file (CSV, CSV.gz or Parquet)")
    null_values = missing.null_values_of(options.null_values)
    items, attributes, replaced, separator = _read_items(options, null_values)
    vector_files = further_vectors.named_values(options.vectors, "vectors", "FILE.npy")
    vectors = further_vectors.read_named(vector_files, len(items))
    if options.text_vectors:
        vector_files[TEXT] = options.text_vectors
        vectors[TEXT] = further_vectors.read_given(options.text_vectors, len(items), "text_vectors")
    source, raw = _read_interactions(options, null_values, tally)
    raw, price = _with_prices(raw, options, source.shown)
    unit = sessions.unit_of(raw["order"], options) if sessions.needs_unit(options) else ""
    raw = sessions.within(raw, options, tally)
    raw = _known(raw, items, options, tally)
    numbered, session_table = number_sessions(raw)
    if positions := POSITION in raw.columns:  # the order of a session is that of its list; its time was the row's
        numbered = numbered.with_columns(raw[POSITION].alias("order"))
    for name, flag in (("user", "user_column"), ("split", "split_column")):
        if name in raw.columns:
            _require_one(raw, name, getattr(options, flag))
    order = raw["order"] if "order" in raw.columns else None
    found: dict[str, Any] = {
        "null_values": replaced,
        "midnights": {} if order is None else order_checks.midnights(order),
    }
    del raw, order
    whose = source.session_column or options.user_column or "session"
    named = (whose, options.item_column, *filter(None, [options.order_column]))
    names = duplicates.Names(source.shown, named, session_table["session_id"], items["item_id"])
    numbered, found["duplicates"] = duplicates.handle(numbered, options.duplicates, names, tally)
    interactions, ties = order_sessions(
        numbered,
        item_ids=items["item_id"],
        ties=options.ties,
        seed=options.seed,
        collapse_repeats=options.collapse_repeats,
    )
    if options.collapse_repeats:
        tally.dropped("the same item again, right after itself", len(numbered) - len(interactions.rows), 0)
    separators = {**dict(zip(source.paths, source.separators, strict=True)), options.items: separator}
    paths = list(dict.fromkeys((*separators, *vector_files.values())))
    short = dict(zip(paths, inputs.names_of(paths), strict=True))
    return Logs(
        interactions=interactions,
        sessions=session_table,
        items=items,
        text_columns=tuple(name for name in items.columns if name.startswith(item_texts.FIELD)),
        order={"rule": _order_rule(options, positions), **ties},
        provenance={
            "source_files": {name: files.sha256_file(path) for path, name in short.items()},
            "separators": {short[path]: separated.name_of(one) for path, one in separators.items() if one},
            "sessions_are": _session_rule(options, source),
            **({"time_unit": unit} if unit else {}),
            "found": found,
        },
        attributes={**attributes, **price},
        vectors=vectors,
    )


def _read_items(
    options: Options, null_values: Sequence[str]
) -> tuple[pl.DataFrame, dict[str, dict[str, Any]], dict[str, int], str]:
    """Ids, names, texts and features; notes on the features; missing values by column; and the file's separator."""
    default = "title" if text_features.models_of(options) else ""
    named = options.text_columns or default
    text_columns = item_texts.text_columns_of(named) if named else ()
    id_column = options.items_id_column or options.item_column
    name_column = options.name_column or next(iter(text_columns), id_column)
    given = separated.character(options.separator, "separator")
    separator = tables.separator_of(options.items, "items", [id_column, *text_columns, name_column], given)
    items = item_texts.read_items(
        options.items,
        id_column=id_column,
        text_columns=text_columns,
        name_column=name_column,
        null_values=null_values,
        separator=separator,
    )
    of_items = {id_column: items["item_id"]}
    csv_lines.require_no_swallowed_rows(options.items, "items", len(items), of_items, separator)
    columns = item_features.FeatureColumns.of(options)
    features, attributes = item_features.read_features(options.items, columns, null_values, separator)
    described = tables.scan(options.items, "items", separator=separator).select(
        list(dict.fromkeys([*text_columns, *columns.named()]))
    )
    replaced = missing.count_null_values(described, null_values)
    return pl.concat([items, features], how="horizontal"), attributes, replaced, separator


def _read_interactions(options: Options, null_values: Sequence[str], tally: Tally) -> tuple[Interactions, pl.DataFrame]:
    """The files; and session, item, `tables.ROW`, and where there are such user, order, split, price, position."""
    names = {"item": options.item_column}
    if options.user_column:
        names["user"] = options.user_column
    if options.split == "column":
        if not options.split_column:
            raise UserError("--split=column needs --split_column, a column with train, validation or test")
        names["split"] = options.split_column
    values = {"order": options.order_column, "price": options.interaction_price_column}
    values = {name: shown for name, shown in values.items() if shown}
    source = inputs.open_interactions(options, [*names.values(), *values.values()])
    if source.session_column:
        names = {"session": source.session_column, **names}
    table, empty = source.collect(Columns(names, values, options.list_separator, null_values))
    whose = "user" if options.session_gap else "session"
    ids = {whose: names.get(whose, "row"), "item": names["item"]}
    drop = options.missing_ids == "drop"
    table = missing.require_ids(table, ids, source.shown, drop=drop, tally=tally, empty=empty)
    if source.listed:
        tally.dropped("row with an empty list", 0, empty)
    for name, shown in (("split", options.split_column), ("order", options.order_column)):
        if name in table.columns:
            tables.require_no_nulls(table, name, shown, source.shown, WHAT)
    if options.order_column:
        order = tables.order_values(table["order"], options.order_column, source.shown, table[tables.ROW])
        table = table.with_columns(order.alias("order"))
    if options.session_gap:
        table = table.with_columns(sessions.by_gap(table["user"], table["order"], options).alias("session"))
        tally.total("sessions by time", len(table), table["session"].n_unique())
    return source, table


def _with_prices(table: pl.DataFrame, options: Options, path: str) -> tuple[pl.DataFrame, dict[str, dict[str, Any]]]:
    column = options.interaction_price_column
    if not column:
        return table, {}
    what = f"interactions file {path}"
    price, unknown = item_features.positive_prices(table["price"], what, column, table[tables.ROW])
    rule = f"median over training interactions; {item_features.PRICE_RULE}"
    note = {"price": {"column": column, "rule": rule, "not_positive": unknown}}
    return table.with_columns(price.alias("price")), note


def _known(table: pl.DataFrame, items: pl.DataFrame, options: Options, tally: Tally) -> pl.DataFrame:
    """Replaces each item id by its row in the items, or stops (or drops) where there is none."""
    numbers = items.select(pl.col("item_id").cast(table["item"].dtype).alias("item")).with_row_index("number")
    distinct = table["item"].unique()
    of_code = distinct.to_frame().join(numbers, on="item", how="left", maintain_order="left")["number"]
    codes = distinct.to_physical()
    number = pl.Series("number", np.zeros(int(codes.to_numpy().max(initial=0)) + 1, np.uint32)).scatter(codes, of_code)
    number = number.gather(table["item"].to_physical())
    lacking = number.is_null()
    if (gone := int(lacking.sum())) and not options.drop_unknown_items:
        unknown = table.filter(lacking)
        raise UserError(
            f"item '{unknown['item'][0]}' of {options.interactions} (data row {unknown[tables.ROW][0]}) has no row in "
            f"{options.items} (in all {unknown['item'].n_unique()} such items in {gone} interactions); "
            "add their rows, or drop the interactions with --drop_unknown_items"
        )
    known = table.with_columns(number.alias("item"))
    known = known.filter(~lacking) if gone else known
    if known.is_empty():
        raise UserError(
            f"no interaction of {options.interactions} has an item of {options.items}; check --item_column and "
            "--items_id_column"
        )
    lost = table["session"].n_unique() - known["session"].n_unique() if gone else 0
    tally.dropped("item without a row in the items", gone, lost)
    return known


def _require_one(raw: pl.DataFrame, name: str, shown: str) -> None:
    pairs = raw.lazy().select("session", name).unique().collect(engine="streaming")
    twice = pairs.filter(pl.col("session").is_duplicated()).cast(pl.String).sort("session")
    if len(twice):
        raise UserError(
            f"column '{shown}' has more than one value in {twice['session'].n_unique()} sessions, first in session "
            f"'{twice['session'][0]}'; a session has one {name}"
        )


def _session_rule(options: Options, source: Interactions) -> str:
    if options.session_gap:
        return f"interactions of a '{options.user_column}' until one comes more than {options.session_gap} later"
    if source.session_column:
        return f"by column '{source.session_column}'"
    return "a row each"


def _order_rule(options: Options, positions: bool) -> str:
    if positions:
        return f"as the items stand in the lists of column '{options.item_column}'"
    tie = "the order of the file" if options.ties == "file" else f"a random order (seed {options.seed})"
    if not options.order_column:
        return f"{tie}, for no --order_column is given"
    return f"by column '{options.order_column}', ties by {tie}"
