"""Which items can be recommended, and the numbers that items get. Only training is ever counted here."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import polars as pl

from alterrec_jax.data.dataset import SPLITS
from data_tools.flat_sessions import FlatSessions
from data_tools.tally import Tally


def filter_rare(
    parts: Mapping[str, FlatSessions], tally: Tally, *, least: int, held_out: str, shortest: int, core: int = 0
) -> dict[str, FlatSessions]:
    """Takes rare items out of the training sessions, by their counts in training alone.

    Items with fewer than `least` training interactions are removed from training sessions. Sessions that are then too
    short are dropped. Counted once: an item may have fewer than `least` interactions left after those sessions went,
    or none. With held_out="drop" every item that training then lacks is removed from validation and test sessions too,
    and what is too short of them is dropped; with "keep" it stays there, and as a target it counts as a miss.

    Args:
      parts: the sessions of each split.
      tally: takes what was dropped.
      least: of interactions in training.
      held_out: "keep" or "drop".
      core: instead of `least`, training is cut down to its k-core: until each item has so many interactions, and each
        session so many items. 0: it is not.
      shortest: session length, where rare items were removed. Never below 2, for a target needs an item before it.

    Returns:
      What remains, in its order.
    """
    counts = parts["train"].rows.group_by("item").len()
    common = counts.filter(pl.col("len") >= least)["item"]
    kept: dict[str, FlatSessions] = {}
    for split in SPLITS:
        part = parts[split]
        tally.total(f"{split}: after the split", len(part.rows), len(part))
        if split == "train" and core:
            part = _core(part, core, max(core, shortest), tally)
        elif split == "train":
            part = _only(part, common, f"train: item with fewer than {least} training interactions", tally)
        elif held_out == "drop":
            trained = kept["train"].rows["item"].unique()
            part = _only(part, trained, f"{split}: item that no training session has left", tally)
        if split == "train" or held_out == "drop":
            part = _long_enough(part, split, shortest, tally)
        kept[split] = part
    return kept


def _only(part: FlatSessions, items: pl.Series, reason: str, tally: Tally) -> FlatSessions:
    """The interactions with these items."""
    wanted = part.rows.select(pl.col("item").is_in(items.implode())).to_series().to_numpy()
    # Where only the last item is a target (first_target > 1), a session that lost it has nothing left to ask, and
    # the target of the others has moved by as many places as items went before it.
    whole = part.first_target == 1
    answerable = whole | wanted[part.stops - 1]
    kept = dataclasses.replace(part, first_target=np.where(whole, np.int32(1), np.int32(0)))
    kept = kept.where_rows(wanted & np.repeat(answerable, part.lengths))
    last = np.maximum(kept.lengths - 1, 1)
    kept = dataclasses.replace(kept, first_target=np.where(kept.first_target == 1, 1, last).astype(np.int32))
    tally.dropped(reason, len(part.rows) - len(kept.rows), len(part) - len(kept))
    return kept


def _core(part: FlatSessions, least: int, shortest: int, tally: Tally) -> FlatSessions:
    """The largest part of training in which each item has `least` interactions, and each session `shortest` items."""
    items = part.rows["item"].to_numpy()
    sessions = np.repeat(np.arange(len(part), dtype=np.uint32), part.lengths)
    kept, rounds = np.ones(len(items), bool), 0
    while True:
        enough = kept & (np.bincount(items[kept], minlength=_size(items)) >= least)[items]
        enough &= (np.bincount(sessions[enough], minlength=len(part)) >= shortest)[sessions]
        if (enough == kept).all():
            break
        kept, rounds = enough, rounds + 1
    core = part.where_rows(kept)
    tally.dropped(
        f"train: outside its core (items from {least} interactions on, sessions from {shortest}; rounds: {rounds})",
        len(part.rows) - len(core.rows),
        len(part) - len(core),
    )
    return core


def _size(numbers: np.ndarray) -> int:
    return int(numbers.max(initial=0)) + 1


def _long_enough(part: FlatSessions, split: str, shortest: int, tally: Tally) -> FlatSessions:
    least = max(shortest, 2)
    kept = part.where(part.lengths >= least)
    reason = f"{split}: session with fewer than {least} items left"
    tally.dropped(reason, len(part.rows) - len(kept.rows), len(part) - len(kept))
    return kept


def number_items(parts: Mapping[str, FlatSessions], item_ids: pl.Series, *, catalogue: str) -> tuple[np.ndarray, int]:
    """Chooses and orders the items of the dataset: first those of training, then the others, each by their ids.

    Args:
      parts: the sessions of each split, whose items are rows of `item_ids`.
      item_ids: str [rows].
      catalogue: "train" keeps items that occur in some split, and only those of training can be recommended; "all"
        keeps every row, and all can be.

    Returns:
      int64 [items], the row of `item_ids` that each item number stands for; and the size of the catalogue.
    """
    in_training = np.zeros(len(item_ids), bool)
    in_training[parts["train"].rows["item"].to_numpy()] = True
    used = np.full(len(item_ids), catalogue == "all")
    for part in parts.values():
        used[part.rows["item"].to_numpy()] = True
    by_id = item_ids.arg_sort().to_numpy().astype(np.int64)
    rows = np.concatenate([by_id[in_training[by_id]], by_id[(used & ~in_training)[by_id]]])
    return rows, len(rows) if catalogue == "all" else int(in_training.sum())


def renumber(part: FlatSessions, rows: np.ndarray, item_rows: int) -> FlatSessions:
    """Replaces each item (a row of the source's items) by its number in the dataset."""
    numbers = np.full(item_rows, -1, np.int32)
    numbers[rows] = np.arange(len(rows), dtype=np.int32)
    item = pl.Series("item", numbers[part.rows["item"].to_numpy()])
    return dataclasses.replace(part, rows=part.rows.with_columns(item))
