"""What is known of items besides their texts: price, category, brand, attributes, image and the words of an image.

Read from the columns of the items file, or derived from the interactions of training: nothing here sees a held-out
session. An item of which something is not known has null there.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from alterrec_jax.data.dataset_files import ATTRIBUTE_COLUMNS
from alterrec_jax.errors import UserError
from data_tools import images, item_texts, missing, tables
from data_tools.coverage import coverage_of
from data_tools.options import NULL_VALUES, Options

LEAST_COUNT = 5  # training interactions that an attribute needs
PRICE_RULE = "a price of zero or less, a NaN and an infinity count as unknown"
_LEVEL = "\ue000"  # between the levels of a path while it is cleaned: of private use, so no text of people holds it


@dataclasses.dataclass(frozen=True)
class FeatureColumns:
    """The columns of an items file that hold features; "" and () for none.

    Attributes:
      price: numbers.
      category: a name, a path "A > B > C", or (of Parquet) a list of strings; the last level is the category.
      brand, image, image_words: text.
      attributes: several columns, each a name, a path or a list.
    """

    price: str = ""
    category: str = ""
    brand: str = ""
    attributes: tuple[str, ...] = ()
    image: str = ""
    image_words: str = ""

    def named(self) -> list[str]:
        """The distinct columns, each of which is in the items file."""
        flat = (self.price, self.category, self.brand, self.image, self.image_words)
        return list(dict.fromkeys(filter(None, [*flat, *self.attributes])))

    @classmethod
    def of(cls, options: Options) -> "FeatureColumns":
        """The columns that the flags name."""
        return cls(
            price=options.price_column,
            category=options.category_column,
            brand=options.brand_column,
            attributes=tuple(dict.fromkeys(filter(None, map(str.strip, options.attribute_columns.split(","))))),
            image=options.image_column,
            image_words=options.image_words_column,
        )


def read_features(
    path: str, columns: FeatureColumns, null_values: Sequence[str] = NULL_VALUES, separator: str = ""
) -> tuple[pl.DataFrame, dict[str, dict[str, Any]]]:
    """Reads the features of an items file.

    Args:
      path: CSV, CSV.gz or Parquet.
      columns: which columns to read.
      null_values: texts that count as missing.
      separator: of a CSV; "" finds it.

    Returns:
      One row for each row of the file, in its order, with those columns of `ATTRIBUTE_COLUMNS` that `columns` names;
      and of each its column and rule, for the manifest.

    Raises:
      UserError: the file or a column is missing, a column is of another type, or a price is no number.
    """
    wanted = columns.named()
    if not wanted:
        return pl.DataFrame(), {}
    scanned = missing.as_null(tables.scan(path, "items", wanted, separator), wanted, null_values)
    types = scanned.collect_schema()
    raw = tables.collect(scanned.select(wanted), path, "items", separator or ",")
    tables_read, notes = [], dict[str, dict[str, Any]]()
    if columns.price:
        price, unknown = positive_prices(raw[columns.price], f"items file {path}", columns.price)
        tables_read.append(price.alias("price").to_frame())
        notes["price"] = {"column": columns.price, "rule": PRICE_RULE, "not_positive": unknown}
    expressions: dict[str, pl.Expr] = {}
    if columns.category:
        expressions["category"] = levels(columns.category, types[columns.category], path).list.last()
        notes["category"] = {"column": columns.category, "rule": "the last level of a path or list"}
    for name in ("brand", "image", "image_words"):
        if column := getattr(columns, name):
            text = item_texts.clean(item_texts.as_text(column, types[column], path))
            expressions[name] = pl.when(text != "").then(text)
            notes[name] = {"column": column, "rule": "as it stands"}
    if columns.attributes:
        of_column = {column: levels(column, types[column], path) for column in columns.attributes}
        expressions["attributes"] = as_attributes(of_column)
        notes["attributes"] = attributes_note(columns.attributes)
    tables_read.append(raw.select(value.alias(name) for name, value in expressions.items()))
    return pl.concat(tables_read, how="horizontal"), notes


def levels(column: str, dtype: pl.DataType, path: str = "") -> pl.Expr:
    """The levels of a path "A > B > C", the strings of a list, or one name, cleaned: List[String], null where none.

    Raises:
      UserError: the column is neither text nor a list of strings.
    """
    text = item_texts.clean(item_texts.as_text(column, dtype, path, separator=_LEVEL))
    parts = text.str.split(_LEVEL if dtype == pl.List(pl.String) else ">")
    parts = parts.list.eval(pl.element().str.strip_chars().filter(pl.element().str.strip_chars() != ""))
    return pl.when(parts.list.len() > 0).then(parts)


def as_attributes(of_column: Mapping[str, pl.Expr]) -> pl.Expr:
    """Attributes "column=value" of several columns of levels, each once: List[String], null where no column has any."""
    named = [
        parts.list.eval(pl.concat_str([pl.lit(f"{column}="), pl.element()])).fill_null(pl.lit([], pl.List(pl.String)))
        for column, parts in of_column.items()
    ]
    every = pl.concat_list(named).list.unique(maintain_order=True)
    return pl.when(every.list.len() > 0).then(every)


def attributes_note(columns: Sequence[str]) -> dict[str, Any]:
    """The column and rule of attributes, for the manifest."""
    rule = f"'column=value' of every level, where {LEAST_COUNT} training interactions or more have it"
    return {"column": ",".join(columns), "rule": rule}


def positive_prices(values: pl.Series, what: str, shown: str, rows: pl.Series | None = None) -> tuple[pl.Series, int]:
    """Prices as Float64, null where unknown.

    Args:
      values: numbers, or their texts; empty ones are unknown.
      what, shown: name the file and the column in errors.
      rows: the number of each value's row, where some rows of the file are left out.

    Returns:
      the prices; and how many numbers were zero or less, NaN or infinite, which count as unknown.

    Raises:
      UserError: a value is no number.
    """
    given = values.cast(pl.String, strict=False).str.strip_chars() if values.dtype == pl.String else values
    given = given.set(given == "", None) if given.dtype == pl.String else given
    if not (given.dtype.is_numeric() or given.dtype in (pl.String, pl.Null)):
        raise UserError(f"{what}: column '{shown}' is {given.dtype}, not a number; write plain numbers like 2.99")
    numbers = given.cast(pl.Float64, strict=False)
    if (bad := numbers.is_null() & given.is_not_null()).any():
        first = int(bad.arg_max() or 0)
        row = first + 1 if rows is None else rows[first]
        raise UserError(
            f"{what}: column '{shown}' holds '{given[first]}' in data row {row} ({bad.sum()} such rows), which is no "
            "number; write plain numbers like 2.99, and nothing where a price is unknown"
        )
    positive = numbers.is_finite() & (numbers > 0)
    return numbers.set(~positive, None), int((~positive).sum())


def training_prices(train: pl.DataFrame, items: int) -> pl.Series:
    """Float64 [items], the median price of each item over the training interactions that have one; else null.

    Args:
      train: columns item (numbers below `items`) and price, a row for each training interaction.
      items: how many items there are.
    """
    known = train.filter(pl.col("price").is_not_null())
    medians = known.group_by("item").agg(pl.col("price").median())
    numbers = pl.DataFrame({"item": np.arange(items, dtype=np.uint32)})
    return numbers.join(
        medians.with_columns(pl.col("item").cast(pl.UInt32)), on="item", how="left", maintain_order="left"
    )["price"]


def frequent_attributes(attributes: pl.Series, train_counts: np.ndarray, least: int = LEAST_COUNT) -> pl.Series:
    """Keeps attributes that `least` training interactions or more have.

    Args:
      attributes: List[String] [items], or null.
      train_counts: int64 [items], training interactions of each item.
      least: of the interactions of all items with that attribute together.

    Returns:
      List[String] [items], in their order: empty where an item keeps none, null where none was known.
    """
    table = pl.DataFrame({"item": np.arange(len(attributes)), "attribute": attributes, "count": train_counts})
    single = table.filter(pl.col("attribute").list.len() > 0).explode("attribute")
    kept = single.filter(pl.col("count").sum().over("attribute") >= least)
    lists = kept.group_by("item", maintain_order=True).agg(pl.col("attribute").alias("kept"))
    joined = table.join(lists, on="item", how="left", maintain_order="left")
    none_left = pl.when(pl.col("attribute").is_not_null()).then(pl.lit([], pl.List(pl.String)))
    return joined.select(pl.col("kept").fill_null(none_left))["kept"]


def finish(
    items: pl.DataFrame,
    notes: Mapping[str, Mapping[str, Any]],
    train: pl.DataFrame,
    *,
    catalogue_size: int,
    image_dir: str,
) -> tuple[pl.DataFrame, dict[str, dict[str, Any]]]:
    """Adds what comes from training interactions and from image files, and says how much is known.

    Args:
      items: of the dataset, by their numbers, with the columns of `read_features`.
      notes: of each feature, its column and rule.
      train: columns item and optionally price, a row for each training interaction.
      catalogue_size: how many of the items, from the first, can be recommended.
      image_dir: the folder of the images; read where there is a column image.

    Returns:
      the items; and the notes, with the shares of all items and of the catalogue of which each feature is known.

    Raises:
      UserError: an image lies outside the folder, or none of them is there.
    """
    found = {name: dict(note) for name, note in notes.items()}
    if "price" in train.columns:
        items = items.with_columns(training_prices(train, len(items)).alias("price"))
    if "attributes" in items.columns:
        counts = np.bincount(train["item"].to_numpy(), minlength=len(items))
        kept = frequent_attributes(items["attributes"], counts)
        items = items.with_columns(kept.alias("attributes"))
    if "image" in items.columns:
        items, missing = images.with_hashes(items, image_dir)
        found["image"]["missing_files"] = missing
    for name in ATTRIBUTE_COLUMNS:
        if name in found:
            found[name] |= coverage_of(items[name], catalogue_size)
    return items, found
