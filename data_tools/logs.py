"""What every source turns its files into, and the ordering of interactions within sessions."""

import dataclasses
from typing import Any

import numpy as np
import polars as pl

from alterrec_jax.data.order import is_ordered
from data_tools import tables
from data_tools.ascending import count_by_rank, ranks
from data_tools.flat_sessions import FlatSessions, blocks
from data_tools.tally import Tally

_COUNTED = ("interactions", "tied_interactions", "sessions_with_ties", "tied_pairs")


@dataclasses.dataclass(frozen=True)
class Logs:
    """Sessions and items of one source, before any split.

    Attributes:
      interactions: the sessions that have any, each in the order of its clicks; items are rows of `items`.
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

    interactions: FlatSessions
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
      raw: columns session (str or categorical), item (uint32), and optionally user, split (likewise), order (ordered),
        price (float) and `tables.ROW`.

    Returns:
      Interactions (session uint32, item uint32; order, price and `tables.ROW` if given), rows as in `raw`; and the
      sessions table of `Logs`.
    """
    named = raw["session"]
    codes = (named if named.dtype == pl.Categorical else named.cast(tables.categories())).to_physical()
    rows = pl.DataFrame({"code": codes, **({"order": raw["order"]} if "order" in raw.columns else {})}).lazy()
    times = [pl.col("order").max().alias("time")] if "order" in raw.columns else []
    grouped = rows.with_row_index("row").group_by("code").agg(pl.col("row").min(), *times)
    found = grouped.collect(engine="streaming").sort("row")
    numbers = np.empty(int(found["code"].max()) + 1 if len(found) else 0, np.uint32)  # type: ignore[arg-type]
    numbers[found["code"].to_numpy()] = np.arange(len(found), dtype=np.uint32)
    nothing = pl.repeat(None, len(found), dtype=pl.String, eager=True)
    first = {"session_id": named.gather(found["row"]).cast(pl.String)}
    for name, column in (("user_id", "user"), ("split", "split")):
        first[name] = raw[column].gather(found["row"]).cast(pl.String) if column in raw.columns else nothing
    first["time"] = found["time"] if times else nothing
    sessions = pl.DataFrame(first).select("session_id", "user_id", "time", "split")
    kept = ["item", *(name for name in ("order", "price", tables.ROW) if name in raw.columns)]
    return raw.select(pl.Series("session", pl.Series(numbers).gather(codes)), *kept), sessions


def order_sessions(
    interactions: pl.DataFrame, *, item_ids: pl.Series, ties: str, seed: int, collapse_repeats: bool = False
) -> tuple[FlatSessions, dict[str, Any]]:
    """Brings each session's rows together and in order.

    Args:
      interactions: columns session and item (uint32), order unless the rows' own order counts, and optionally price.
      item_ids: str [items], to see whether ties follow each other by them.
      ties: "file" keeps rows of equal order as they stand, "random" shuffles them by the seed.
      seed: of the shuffle.
      collapse_repeats: keeps the first only of an item that follows itself, before anything is counted.

    Returns:
      The sessions, with price if given, and alone where the order is a time. And, for the manifest:
      ties; interactions: how many there are in sessions of two or more.
      tied_interactions, in sessions_with_ties: how many share their place in the order with another of the same
        session; without an order column all interactions of a session do.
      tied_pairs: neighbours that share their place and are different items; tied_pairs_ascending: how many of them
        ascend by item id.
      positions: whether the order only counts 0, 1, 2 .. within each session, so that times are unknown.
      ordered: whether the order means something; see `alterrec_jax.data.order.is_ordered`.
    """
    interactions = interactions.drop(tables.ROW, strict=False)
    timed = "order" in interactions.columns
    if ties == "random":
        shuffle = np.random.default_rng(seed).random(len(interactions))
        interactions = interactions.with_columns(pl.Series("shuffle", shuffle))
    of_items, positions = ranks(item_ids), timed and interactions["order"].dtype.is_integer()
    counts, ascending = dict.fromkeys(_COUNTED, 0), np.zeros(len(of_items), np.int64)
    frames = []
    for rows in blocks(interactions["session"].to_numpy()):
        by = ["session", *(["order"] if timed else []), *(["shuffle"] if ties == "random" else [])]
        block = interactions[rows].sort(by, maintain_order=True)
        positions = positions and _counts_positions(block)
        if collapse_repeats:
            block = block.filter(~_same_as_before(block, ["session", "item"]))
        with_previous = _same_as_before(block, ["session", *(["order"] if timed else [])]).to_numpy()
        tied = with_previous | np.append(with_previous[1:], False)[: len(with_previous)]
        items, after = block["item"].to_numpy(), np.flatnonzero(with_previous)
        pairs, of_rank = count_by_rank(items[after - 1], items[after], of_items)
        ascending += of_rank
        session = block["session"]
        found = (len(block) - _single(session.to_numpy()), int(tied.sum()), session.filter(pl.Series(tied)).n_unique())
        counts = {name: counts[name] + more for name, more in zip(_COUNTED, (*found, pairs), strict=True)}
        frames.append(block.with_columns(pl.Series("alone", ~tied)).drop("order", "shuffle", strict=False))
    ordered = tables.concat(frames)
    facts: dict[str, Any] = {
        "ties": ties,
        **counts,
        "tied_pairs_ascending": int(ascending.max(initial=0)),
        "positions": positions,
    }
    facts["ordered"] = is_ordered(facts)
    return FlatSessions.of(ordered if timed and not positions else ordered.drop("alone")), facts


def _same_as_before(table: pl.DataFrame, columns: list[str]) -> pl.Series:
    """bool [rows], whether these columns are equal to those of the row before."""
    same = pl.all_horizontal(pl.col(column) == pl.col(column).shift(1) for column in columns)
    return table.select(same.fill_null(False)).to_series()


def _single(session: np.ndarray) -> int:
    """How many sessions have one row; a session's rows stand together."""
    starts = np.flatnonzero(np.diff(session, prepend=-1))
    return int((np.diff(starts, append=len(session)) == 1).sum())


def _counts_positions(ordered: pl.DataFrame) -> bool:
    """Whether the order, integers, grows by one from each row of a session to the next."""
    within = pl.col("session") == pl.col("session").shift(1)
    steps = ordered.select(pl.col("order").cast(pl.Int64).diff().filter(within)).to_series()
    return bool((steps == 1).all())


def limit_lengths(logs: Logs, tally: Tally, *, shortest: int, longest: int) -> Logs:
    """Takes the last `longest` items of each session (0: all), then drops sessions with fewer than `shortest`."""
    sessions = logs.interactions
    if longest:
        gone = np.maximum(sessions.lengths - longest, 0)
        first = np.repeat(sessions.starts + gone, sessions.lengths)
        kept = sessions.where_rows(np.arange(len(sessions.rows)) >= first)
        tally.dropped(f"before the last {longest} items of a session", len(sessions.rows) - len(kept.rows), 0)
        sessions = kept
    kept = sessions.where(sessions.lengths >= shortest)
    dropped = len(sessions.rows) - len(kept.rows), len(sessions) - len(kept)
    tally.dropped(f"session with fewer than {shortest} items", *dropped)
    tally.total("before the split", len(kept.rows), len(kept))
    return dataclasses.replace(logs, interactions=kept)
