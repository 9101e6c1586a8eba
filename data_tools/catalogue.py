"""Which items can be recommended, and the numbers that items get. Only training is ever counted here."""

import numpy as np
import polars as pl

from alterrec_jax.data.dataset import SPLITS
from data_tools.tally import Tally


def filter_rare(
    parts: pl.DataFrame, tally: Tally, *, least: int, held_out: str, shortest: int, core: int = 0
) -> pl.DataFrame:
    """Takes rare items out of the training sessions, by their counts in training alone.

    Items with fewer than `least` training interactions are removed from training sessions. Sessions that are then too
    short are dropped. Counted once: an item may have fewer than `least` interactions left after those sessions went,
    or none. With held_out="drop" every item that training then lacks is removed from validation and test sessions too,
    and what is too short of them is dropped; with "keep" it stays there, and as a target it counts as a miss.

    Args:
      parts: columns split, session, item, first_target, and any others.
      tally: takes what was dropped.
      least: of interactions in training.
      held_out: "keep" or "drop".
      core: instead of `least`, training is cut down to its k-core: until each item has so many interactions, and each
        session so many items. 0: it is not.
      shortest: session length, where rare items were removed. Never below 2, for a target needs an item before it.

    Returns:
      The rows that remain, in their order.
    """
    counts = parts.filter(pl.col("split") == "train").group_by("item").len()
    common = counts.filter(pl.col("len") >= least)["item"]
    kept: list[pl.DataFrame] = []
    for split in SPLITS:
        part = parts.filter(pl.col("split") == split)
        tally.total(f"{split}: after the split", len(part), part["session"].n_unique())
        if split == "train" and core:
            part = _core(part, core, max(core, shortest), tally)
        elif split == "train":
            part = _only(part, common, f"train: item with fewer than {least} training interactions", tally)
        elif held_out == "drop":
            part = _only(part, kept[0]["item"].unique(), f"{split}: item that no training session has left", tally)
        if split == "train" or held_out == "drop":
            part = _long_enough(part, split, shortest, tally)
        kept.append(part)
    return pl.concat(kept)


def _only(part: pl.DataFrame, items: pl.Series, reason: str, tally: Tally) -> pl.DataFrame:
    """The interactions with these items."""
    wanted = part["item"].is_in(items.implode())
    kept = part.filter(wanted)
    # Where only the last item is a target (first_target > 1), a session that lost it has nothing left to ask, and
    # the target of the others has moved by as many places as items went before it.
    sessions = part.select("session", pl.col("first_target") == 1, wanted.alias("target"))
    targets = sessions.group_by("session").agg(pl.col("first_target").first().alias("whole"), pl.col("target").last())
    answerable = targets.filter(pl.col("whole") | pl.col("target")).select("session", "whole")
    last = pl.len().over("session").cast(pl.Int32) - 1
    first_target = pl.when(pl.col("whole")).then(1).otherwise(last.clip(lower_bound=1)).cast(pl.Int32)
    kept = (
        kept.join(answerable, on="session", how="inner", maintain_order="left")
        .with_columns(first_target.alias("first_target"))
        .select(part.columns)
    )
    tally.dropped(reason, len(part) - len(kept), part["session"].n_unique() - kept["session"].n_unique())
    return kept


def _core(part: pl.DataFrame, least: int, shortest: int, tally: Tally) -> pl.DataFrame:
    """The largest part of training in which each item has `least` interactions, and each session `shortest` items."""
    items, sessions = part["item"].to_numpy(), part["session"].to_numpy()
    kept, rounds = np.ones(len(part), bool), 0
    while True:
        enough = kept & (np.bincount(items[kept], minlength=_size(items)) >= least)[items]
        enough &= (np.bincount(sessions[enough], minlength=_size(sessions)) >= shortest)[sessions]
        if (enough == kept).all():
            break
        kept, rounds = enough, rounds + 1
    core = part.filter(pl.Series(kept))
    tally.dropped(
        f"train: outside its core (items from {least} interactions on, sessions from {shortest}; rounds: {rounds})",
        len(part) - len(core),
        part["session"].n_unique() - core["session"].n_unique(),
    )
    return core


def _size(numbers: np.ndarray) -> int:
    return int(numbers.max(initial=0)) + 1


def _long_enough(part: pl.DataFrame, split: str, shortest: int, tally: Tally) -> pl.DataFrame:
    kept = part.filter(pl.len().over("session") >= max(shortest, 2))
    sessions = part["session"].n_unique() - kept["session"].n_unique()
    tally.dropped(f"{split}: session with fewer than {max(shortest, 2)} items left", len(part) - len(kept), sessions)
    return kept


def number_items(parts: pl.DataFrame, item_ids: pl.Series, *, catalogue: str) -> tuple[np.ndarray, int]:
    """Chooses and orders the items of the dataset: first those of training, then the others, each by their ids.

    Args:
      parts: column split and item; item is a row of `item_ids`.
      item_ids: str [rows].
      catalogue: "train" keeps items that occur in some split, and only those of training can be recommended; "all"
        keeps every row, and all can be.

    Returns:
      int64 [items], the row of `item_ids` that each item number stands for; and the size of the catalogue.
    """
    in_training = np.zeros(len(item_ids), bool)
    in_training[parts.filter(pl.col("split") == "train")["item"].to_numpy()] = True
    used = np.ones(len(item_ids), bool) if catalogue == "all" else np.zeros(len(item_ids), bool)
    used[parts["item"].to_numpy()] = True
    by_id = item_ids.arg_sort().to_numpy().astype(np.int64)
    rows = np.concatenate([by_id[in_training[by_id]], by_id[(used & ~in_training)[by_id]]])
    return rows, len(rows) if catalogue == "all" else int(in_training.sum())


def renumber(parts: pl.DataFrame, rows: np.ndarray, item_rows: int) -> pl.DataFrame:
    """Replaces each item (a row of the source's items) by its number in the dataset."""
    numbers = np.full(item_rows, -1, np.int32)
    numbers[rows] = np.arange(len(rows), dtype=np.int32)
    return parts.with_columns(pl.Series("item", numbers[parts["item"].to_numpy()]))
