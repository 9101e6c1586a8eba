"""What every source turns its files into, and the ordering of interactions within sessions."""

import dataclasses
from typing import Any

import numpy as np
import polars as pl

from alterrec_jax.data.order import is_ordered
from data_tools import tables
from data_tools.ascending import count_ascending
from data_tools.tally import Tally


@dataclasses.dataclass(frozen=True)
class Logs:
    """Sessions and items of one source, before any split.

    Attributes:
      interactions: columns session and item (uint32): rows of `sessions` and `items`. A session's rows stand
        together, in the order of its clicks, sessions ascending. Optional columns: price (float, null where unknown),
        and alone (bool), whether nothing else of the session has the same time.
      sessions: columns session_id, user_id (str), time (when the session ended; any ordered type, or null) and
        split (str, or null where a rule has yet to choose). Row i is session i.
      items: columns item_id, name and the text columns (str, cleaned, "" where empty), and the attributes that are
        known: those of `dataset_files.ATTRIBUTE_COLUMNS`, null where an item has none. Row i is item i.
      text_columns: which columns of `items` are text.
      order: how the clicks of a session are ordered, in words and counts, and whether that means something (ordered),
        for the manifest.
      provenance: what else the manifest says of the source.
      attributes: of each attribute, a price by interaction among them: its column and its rule, for the manifest.
      vectors: of each feature whose vectors were given, float [items, width], rows as in `items`; zeros where an item
        has none. "text" is among them where they take the place of a text model's.
    """

    interactions: pl.DataFrame
    sessions: pl.DataFrame
    items: pl.DataFrame
    text_columns: tuple[str, ...]
    order: dict[str, Any]
    provenance: dict[str, Any]
    attributes: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    vectors: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


def number_sessions(raw: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Numbers the sessions in the order of their first rows.

    Args:
      raw: columns session (str), item (uint32), and optionally user (str), order (ordered), split (str), price (float)
        and `tables.ROW`.

    Returns:
      Interactions (session uint32, item uint32; order, price and `tables.ROW` if given), rows as in `raw`; and the
      sessions table of `Logs`.
    """
    columns = raw.columns
    nothing = pl.lit(None, pl.String)
    sessions = raw.group_by("session", maintain_order=True).agg(
        (pl.col("user").first() if "user" in columns else nothing).alias("user_id"),
        (pl.col("order").max() if "order" in columns else nothing).alias("time"),
        (pl.col("split").first() if "split" in columns else nothing).alias("split"),
    )
    sessions = sessions.rename({"session": "session_id"})
    numbers = sessions.select(pl.col("session_id").alias("session")).with_row_index("number")
    kept = ["number", "item", *(name for name in ("order", "price", tables.ROW) if name in columns)]
    numbered = raw.join(numbers, on="session", how="left", maintain_order="left").select(kept)
    return numbered.rename({"number": "session"}), sessions


def order_sessions(
    interactions: pl.DataFrame, *, item_ids: pl.Series, ties: str, seed: int, collapse_repeats: bool = False
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Brings each session's rows together and in order.

    Args:
      interactions: columns session and item (uint32), order unless the rows' own order counts, and optionally price.
      item_ids: str [items], to see whether ties follow each other by them.
      ties: "file" keeps rows of equal order as they stand, "random" shuffles them by the seed.
      seed: of the shuffle.
      collapse_repeats: keeps the first only of an item that follows itself, before anything is counted.

    Returns:
      Columns session, item, price if given, and alone where the order is a time; rows in order. And, for the manifest:
      ties; interactions: how many there are in sessions of two or more.
      tied_interactions, in sessions_with_ties: how many share their place in the order with another of the same
        session; without an order column all interactions of a session do.
      tied_pairs: neighbours that share their place and are different items; tied_pairs_ascending: how many of them
        ascend by item id.
      positions: whether the order only counts 0, 1, 2 .. within each session, so that times are unknown.
      ordered: whether the order means something; see `alterrec_jax.data.order.is_ordered`.
    """
    keys = ["session"] + (["order"] if "order" in interactions.columns else [])
    given, by = interactions, list(keys)
    if ties == "random":
        given = given.with_columns(pl.Series("shuffle", np.random.default_rng(seed).random(len(given))))
        by.append("shuffle")
    ordered = given.sort(by, maintain_order=True)
    positions = "order" in keys and _counts_positions(ordered)
    if collapse_repeats:
        again = (pl.col("session") == pl.col("session").shift(1)) & (pl.col("item") == pl.col("item").shift(1))
        ordered = ordered.filter(~again.fill_null(False))
    same = ordered.select(pl.all_horizontal(pl.col(key) == pl.col(key).shift(1) for key in keys).fill_null(False))
    with_previous = same.to_series().to_numpy()
    tied = with_previous | np.append(with_previous[1:], False)[: len(with_previous)]
    items = ordered["item"].to_numpy()
    after = np.flatnonzero(with_previous)
    pairs, ascending = count_ascending(items[after - 1], items[after], item_ids)
    facts: dict[str, Any] = {
        "ties": ties,
        "interactions": len(ordered) - _single(ordered["session"].to_numpy()),
        "tied_interactions": int(tied.sum()),
        "sessions_with_ties": ordered["session"].filter(pl.Series(tied)).n_unique(),
        "tied_pairs": pairs,
        "tied_pairs_ascending": ascending,
        "positions": positions,
    }
    facts["ordered"] = is_ordered(facts)
    if "order" in keys and not facts["positions"]:
        ordered = ordered.with_columns(pl.Series("alone", ~tied))
    return ordered.drop("order", "shuffle", tables.ROW, strict=False), facts


def _single(session: np.ndarray) -> int:
    """How many sessions have one row; a session's rows stand together."""
    starts = np.flatnonzero(np.diff(session, prepend=-1))
    return int((np.diff(starts, append=len(session)) == 1).sum())


def _counts_positions(ordered: pl.DataFrame) -> bool:
    """Whether the order grows by one from each row of a session to the next."""
    if not ordered["order"].dtype.is_integer():
        return False
    within = pl.col("session") == pl.col("session").shift(1)
    steps = ordered.select(pl.col("order").cast(pl.Int64).diff().filter(within)).to_series()
    return bool((steps == 1).all())


def limit_lengths(logs: Logs, tally: Tally, *, shortest: int, longest: int) -> Logs:
    """Takes the last `longest` items of each session (0: all), then drops sessions with fewer than `shortest`."""
    table, sessions = logs.interactions, logs.interactions["session"].n_unique()
    if longest:
        kept = table.filter(pl.int_range(pl.len()).over("session") >= pl.len().over("session").cast(pl.Int64) - longest)
        tally.dropped(f"before the last {longest} items of a session", len(table) - len(kept), 0)
        table = kept
    kept = table.filter(pl.len().over("session") >= shortest)
    left = kept["session"].n_unique()
    tally.dropped(f"session with fewer than {shortest} items", len(table) - len(kept), sessions - left)
    tally.total("before the split", len(kept), left)
    return dataclasses.replace(logs, interactions=kept)
