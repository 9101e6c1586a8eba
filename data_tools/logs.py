"""What every source turns its files into, and the ordering of interactions within sessions."""

import dataclasses
from typing import Any

import numpy as np
import polars as pl

from data_tools.tally import Tally


@dataclasses.dataclass(frozen=True)
class Logs:
    """Sessions and items of one source, before any split.

    Attributes:
      interactions: columns session and item (uint32): rows of `sessions` and `items`. A session's rows stand
        together, in the order of its clicks, sessions ascending.
      sessions: columns session_id, user_id (str), time (when the session ended; any ordered type, or null) and
        split (str, or null where a rule has yet to choose). Row i is session i.
      items: columns item_id, name and the text columns (str, cleaned, "" where empty). Row i is item i.
      text_columns: which columns of `items` are text.
      order: how the clicks of a session are ordered, in words and counts, for the manifest.
      provenance: what else the manifest says of the source.
    """

    interactions: pl.DataFrame
    sessions: pl.DataFrame
    items: pl.DataFrame
    text_columns: tuple[str, ...]
    order: dict[str, Any]
    provenance: dict[str, Any]


def number_sessions(raw: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Numbers the sessions in the order of their first rows.

    Args:
      raw: columns session (str), item (uint32), and optionally user (str), order (ordered), split (str).

    Returns:
      Interactions (session uint32, item uint32, order if given), rows as in `raw`; and the sessions table of `Logs`.
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
    kept = ["number", "item"] + (["order"] if "order" in columns else [])
    numbered = raw.join(numbers, on="session", how="left", maintain_order="left").select(kept)
    return numbered.rename({"number": "session"}), sessions


def order_sessions(interactions: pl.DataFrame, *, ties: str, seed: int) -> tuple[pl.DataFrame, dict[str, int]]:
    """Brings each session's rows together and in order.

    Args:
      interactions: columns session and item (uint32), and order unless the rows' own order counts.
      ties: "file" keeps rows of equal order as they stand, "random" shuffles them by the seed.
      seed: of the shuffle.

    Returns:
      Columns session and item, ordered; and how many interactions, in how many sessions, share their place in the
      order with another of the same session. Without an order column all interactions of a session do.
    """
    keys = ["session"] + (["order"] if "order" in interactions.columns else [])
    tied = interactions.group_by(keys).len().filter(pl.col("len") > 1)
    counts = {
        "tied_interactions": int(tied["len"].sum()),
        "sessions_with_ties": tied["session"].n_unique(),
    }
    if ties == "random":
        shuffle = pl.Series("shuffle", np.random.default_rng(seed).random(len(interactions)))
        interactions = interactions.with_columns(shuffle)
        keys.append("shuffle")
    ordered = interactions.sort(keys, maintain_order=True).select("session", "item")
    return ordered, counts


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
