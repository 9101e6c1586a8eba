"""Amazon-M2 (KDD Cup 2023), from the official files that the user has downloaded.

A row of sessions_train.csv is one session: prev_items, printed like ['B01' 'B02'] over one or several lines, and
next_item after them. Taken are the sessions of one market whose items all have a text in that market. A seeded tenth
of the training sessions is validation, as in the paper's appendix E.
"""

import pathlib

import numpy as np
import polars as pl

from alterrec_jax.data.dataset import SPLITS
from alterrec_jax.errors import UserError
from alterrec_jax.runtime import files
from alterrec_jax.runtime.text_table import aligned
from data_tools import item_texts, splits, tables
from data_tools.flat_sessions import FlatSessions
from data_tools.logs import Logs, number_sessions
from data_tools.options import Options
from data_tools.tally import Tally

# Table 3 of the AlterRec paper: items, train, validation, test.
PAPER_COUNTS = {
    "ES": (38_888, 75_098, 7_900, 6_237),
    "FR": (40_258, 96_245, 10_507, 8_981),
    "IT": (45_559, 102_923, 11_102, 10_158),
}
_DEFAULT_TEXTS = "title,desc"


def read(options: Options, tally: Tally) -> Logs:
    """Reads the sessions and products of one market.

    Raises:
      UserError: a flag, file or column is missing, a file is damaged or not of the official form, the market has no
        session, or the test sessions have no ground truth.
    """
    for name in ("interactions", "items", "locale"):
        if not getattr(options, name):
            raise UserError(f"--{name} is missing; amazon_m2 needs sessions_train.csv, products_train.csv and a market")
    items = _read_products(options)
    sessions = _read_sessions(options.interactions, "sessions", options.locale, "train")
    if options.test_sessions:
        sessions = pl.concat([sessions, _read_test(options)])
    elif options.test_truth:
        raise UserError("--test_truth is of no use without --test_sessions; give both")
    clicks = _with_texts(sessions, items, tally)
    chosen = _choose_splits(clicks, options)
    raw = clicks.join(chosen, on="session", how="left", maintain_order="left")
    numbered, session_table = number_sessions(raw)  # clicks stand in order already
    paths = [p for p in (options.interactions, options.items, options.test_sessions, options.test_truth) if p]
    return Logs(
        interactions=FlatSessions.of(numbered),
        sessions=session_table,
        items=items,
        text_columns=tuple(items.columns[2:]),
        order={
            "rule": "prev_items as given, next_item last",
            "tied_interactions": 0,
            "sessions_with_ties": 0,
            "ordered": True,
        },
        provenance={"source_files": {pathlib.Path(path).name: files.sha256_file(path) for path in paths}},
    )


def split_rule(options: Options) -> str:
    """The split in words, for the manifest."""
    validation = f"{options.validation_fraction:g} of the training sessions at random (seed {options.seed}) validation"
    test = "the official test sessions" if options.test_sessions else f"another {options.test_fraction:g} of them"
    return f"{validation}; {test} test"


def beside_the_paper(locale: str, items: int, sessions: dict[str, int]) -> str:
    """A table of our counts beside those of the paper's Table 3."""
    paper = PAPER_COUNTS.get(locale)
    ours = (items, *(sessions[split] for split in SPLITS))
    rows: list[tuple[str, ...]] = [("counts", "here", "paper, Table 3")]
    for place, name in enumerate(("items", *(f"{split} sessions" for split in SPLITS))):
        rows.append((name, f"{ours[place]:,}", f"{paper[place]:,}" if paper else "not in it"))
    return aligned(rows)


def _read_products(options: Options) -> pl.DataFrame:
    columns = item_texts.text_columns_of(options.text_columns or _DEFAULT_TEXTS)
    items = item_texts.read_items(
        options.items, id_column="id", text_columns=columns, name_column=columns[0], where=("locale", options.locale)
    )
    return items.filter(item_texts.joined(items.columns[2:]) != "")


def _read_sessions(path: str, what: str, locale: str, prefix: str, truth: pl.Series | None = None) -> pl.DataFrame:
    """Columns session (str: prefix and row of the file) and items (list of str), of one market."""
    needed = ["prev_items", "locale"] + ([] if truth is not None else ["next_item"])
    table = tables.scan(path, what, needed).select(needed)
    if truth is not None:
        rows = tables.collect(table.select(pl.len()), path, what).item()
        if rows != len(truth):
            raise UserError(f"--test_truth has {len(truth)} rows, but {path} has {rows}; they must belong together")
        table = table.with_columns(truth.alias("next_item"))
    table = tables.with_rows(table)
    chosen = tables.collect(table.filter(pl.col("locale") == locale), path, what)
    if chosen.is_empty():
        known = tables.collect(table.select("locale").unique().sort("locale"), path, what)["locale"].drop_nulls()
        raise UserError(f"{what} file {path} has no session of --locale={locale}; it has {', '.join(known) or 'none'}")
    tables.require_no_nulls(chosen, "next_item", "next_item", path, what)
    with tables.readable(path, what):
        return chosen.select(
            pl.format(f"{prefix}-{{}}", tables.ROW).alias("session"),
            pl.concat_list(_parsed(chosen, path, what), pl.col("next_item").cast(pl.String)).alias("items"),
        )


def _parsed(chosen: pl.DataFrame, path: str, what: str) -> pl.Series:
    """prev_items as lists of ids: of a CSV printed by NumPy, of a Parquet lists already."""
    values = chosen["prev_items"]
    if values.dtype == pl.String:
        text = values.str.strip_chars()
        whole = text.str.starts_with("[") & text.str.ends_with("]")
        values = text.str.extract_all(r"'[^']+'").list.eval(pl.element().str.strip_chars("'"))
    elif isinstance(values.dtype, pl.List):
        whole = values.is_not_null()
    else:
        raise UserError(f"{what} file {path}: prev_items is {values.dtype}, not a list of item ids")
    bad = chosen[tables.ROW].filter(~(whole & (values.list.len() > 0)).fill_null(False))
    if len(bad):
        raise UserError(
            f"{what} file {path}: prev_items of data row {bad[0]} is not a list like ['B01' 'B02'] "
            f"({len(bad)} such rows); download the file again"
        )
    return values.cast(pl.List(pl.String))


def _read_test(options: Options) -> pl.DataFrame:
    path, truth = options.test_sessions, None
    if options.test_truth:
        scanned = tables.scan(options.test_truth, "test truth", ["next_item"]).select("next_item")
        truth = tables.collect(scanned, options.test_truth, "test truth")["next_item"]
    elif "next_item" not in tables.scan(path, "test sessions", ["prev_items", "locale"]).collect_schema().names():
        raise UserError(
            f"test sessions {path} have no column next_item; give their ground truth by --test_truth, or leave them out"
        )
    return _read_sessions(path, "test sessions", options.locale, "test", truth)


def _with_texts(sessions: pl.DataFrame, items: pl.DataFrame, tally: Tally) -> pl.DataFrame:
    """Columns session and item (uint32 row of `items`), of the sessions whose items all have a text."""
    clicks = sessions.explode("items").rename({"items": "id"})
    tally.total("read, of the market", len(clicks), len(sessions))
    numbers = items.select(pl.col("item_id").alias("id")).with_row_index("item")
    found = clicks.join(numbers, on="id", how="left", maintain_order="left").select("session", "item")
    without = found.filter(pl.col("item").is_null()).select("session").unique()
    kept = found.join(without, on="session", how="anti", maintain_order="left")
    tally.dropped("session with an item without text", len(clicks) - len(kept), len(without))
    return kept


def _choose_splits(clicks: pl.DataFrame, options: Options) -> pl.DataFrame:
    """Columns session and split: official test sessions are test, the others are divided at random."""
    names = clicks["session"].unique(maintain_order=True)
    official = names.str.starts_with("test-")
    validation, test = options.shares
    ours = names.filter(~official)
    labels = splits.at_random(len(ours), validation, 0.0 if options.test_sessions else test, options.seed)
    return pl.DataFrame(
        {
            "session": pl.concat([ours, names.filter(official)]),
            "split": pl.concat([labels, pl.Series(np.full(int(official.sum()), "test"), dtype=pl.String)]),
        }
    )
