"""Whether neighbours in a session stand in the order of their item ids: the mark that a sorted file leaves."""

import numpy as np
import polars as pl


def count_ascending(before: np.ndarray, after: np.ndarray, item_ids: pl.Series) -> tuple[int, int]:
    """Counts the pairs of items whose ids ascend.

    Args:
      before, after: int [pairs], the items of each pair, as rows of `item_ids`. Pairs of equal items are left out.
      item_ids: str [items].

    Returns:
      how many pairs of different items there are, and how many of them ascend: by the ids as text, or as whole
      numbers where all are, whichever are more. A true order gives about half.
    """
    pairs, ascending = count_by_rank(before, after, ranks(item_ids))
    return pairs, int(ascending.max(initial=0))


def count_by_rank(before: np.ndarray, after: np.ndarray, of_items: list[np.ndarray]) -> tuple[int, np.ndarray]:
    """Like `count_ascending`, by each of the ranks alone: int64 [ranks]; for pairs that are counted some at a time."""
    different = before != after
    before, after = before[different], after[different]
    return len(before), np.array([np.count_nonzero(rank[before] < rank[after]) for rank in of_items], np.int64)


def ranks(item_ids: pl.Series) -> list[np.ndarray]:
    """Where each item stands by its id as text and, where all are whole numbers, by these: int64 [items] each."""
    as_text = np.empty(len(item_ids), np.int64)
    as_text[item_ids.arg_sort().to_numpy()] = np.arange(len(item_ids))
    numbers = item_ids.cast(pl.Int64, strict=False)
    return [as_text] if numbers.has_nulls() else [as_text, numbers.to_numpy()]
