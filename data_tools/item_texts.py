"""Cleans what people typed about items, and makes the items table that a source hands on."""

import html
from collections.abc import Sequence

import polars as pl

from alterrec_jax.errors import UserError
from data_tools import missing, tables
from data_tools.options import NULL_VALUES

SEPARATOR = ", "
# Escape sequences, control characters but for white space, and what turns the direction of writing around.
_CODES = r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\p{Cc}--\s]|[\u202a-\u202e\u2066-\u2069]"
FIELD = "field "  # before the name of a text column: keeps one that is called item_id or name apart from ours


def clean(text: pl.Expr) -> pl.Expr:
    """Text without HTML entities, runs of white space and codes for a terminal; "" where there is none."""
    text = text.cast(pl.String).fill_null("")
    # A loop over Python strings, but only over items, never interactions.
    unescaped = text.map_elements(_unescape, return_dtype=pl.String)
    return unescaped.str.replace_all(_CODES, "").str.replace_all(r"\s+", " ").str.strip_chars()


def joined(columns: Sequence[str]) -> pl.Expr:
    """The non-empty ones of the text columns in one text; "" where there are none."""
    if not columns:
        return pl.lit("")
    present = [pl.when(pl.col(column) != "").then(pl.col(column)) for column in columns]
    return pl.concat_str(present, separator=SEPARATOR, ignore_nulls=True).fill_null("")


def text_columns_of(names: str) -> tuple[str, ...]:
    """The distinct columns that --text_columns names, with commas between.

    Raises:
      UserError: it names none.
    """
    columns = tuple(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    if not columns:
        raise UserError("--text_columns names no column; give at least one, for example --text_columns=title")
    return columns


def read_items(
    path: str,
    *,
    id_column: str,
    text_columns: Sequence[str],
    name_column: str,
    null_values: Sequence[str] = NULL_VALUES,
    where: tuple[str, str] | None = None,
    separator: str = "",
) -> pl.DataFrame:
    """Reads the items of a file.

    Args:
      path: CSV, CSV.gz or Parquet.
      id_column, text_columns, name_column: its columns. A list of strings (of a Parquet file) is one text, its
        strings joined by spaces.
      null_values: texts that count as missing.
      where: a column and the value of it that rows must have.
      separator: of a CSV; "" finds it.

    Returns:
      Columns item_id, name and the text columns, as `Logs.items` has them. An item without a name shows its id.

    Raises:
      UserError: a file or column is missing, a column holds no text, an id is empty, or an id stands in two rows.
    """
    wanted = list(dict.fromkeys([*text_columns, name_column]))
    scanned = tables.scan(path, "items", [id_column, *wanted, *(where[:1] if where else ())], separator)
    scanned = missing.as_null(tables.with_rows(scanned), [id_column, *wanted], null_values, ids=[id_column])
    types = scanned.collect_schema()
    texts = [as_text(column, types[column], path).alias(FIELD + column) for column in wanted]
    if where:
        scanned = scanned.filter(pl.col(where[0]) == where[1])
    table = scanned.select(tables.ROW, pl.col(id_column).cast(pl.String).alias("item_id"), *texts)
    tables.require_no_surplus(path, "items", separator)
    raw = tables.collect(table, path, "items", separator or ",")
    tables.require_no_nulls(raw, "item_id", id_column, path, "items")
    require_unique(raw, path)
    cleaned = raw.with_columns(clean(pl.col(FIELD + column)) for column in wanted)
    name = pl.col(FIELD + name_column)
    return cleaned.select(
        "item_id",
        pl.when(name != "").then(name).otherwise(pl.col("item_id")).alias("name"),
        *(pl.col(FIELD + column) for column in text_columns),
    )


def require_unique(items: pl.DataFrame, path: str) -> None:
    """Stops where an item id stands in two rows.

    Args:
      items: columns item_id and `tables.ROW`.
      path: of the file.

    Raises:
      UserError: names the first such id, its rows, and how many ids there are.
    """
    twice = items.filter(pl.col("item_id").is_duplicated())
    if len(twice):
        rows = twice.filter(pl.col("item_id") == twice["item_id"][0])[tables.ROW].head(2)
        raise UserError(
            f"items file {path} has {twice['item_id'].n_unique()} item ids in more than one row, first "
            f"'{twice['item_id'][0]}' in data rows {' and '.join(map(str, rows))}; keep one row for each"
        )


def as_text(column: str, dtype: pl.DataType, path: str, *, separator: str = " ") -> pl.Expr:
    """A column of an items file as one text a row; the strings of a list are joined by `separator`.

    Raises:
      UserError: the column is nested otherwise, or binary: such values have no one way to be read.
    """
    if dtype == pl.List(pl.String):
        return pl.col(column).list.join(separator, ignore_nulls=True)
    if dtype.is_nested() or dtype in (pl.Binary, pl.Object):
        raise UserError(
            f"items file {path}: column '{column}' is {dtype}, not text or a list of strings; write it as text, or "
            "leave it out"
        )
    return pl.col(column)


def _unescape(text: str) -> str:
    # Shop exports are often escaped twice ("&amp;amp;"); a third time has not been seen.
    return html.unescape(html.unescape(text))
