"""How models are to be evaluated on a dataset, as far as its training sessions tell."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from data_tools.flat_sessions import BLOCK

RARELY = 0.001
"""The share of the training interactions below which repeats in a session are too rare to keep its items candidates."""


def are_rare(repeats: int, interactions: int) -> bool:
    """Whether so few interactions repeat an item of their session that session items need not be candidates."""
    return not repeats or repeats < RARELY * interactions


def protocol_of(items: np.ndarray, lengths: np.ndarray) -> dict[str, Any]:
    """Whether a session's own items can be left out of what is recommended.

    Where sessions hardly ever hold an item twice (baskets of one line an item, reviews), recommending what a session
    holds is wrong, or nearly always; where they do, it can be right. Only training sessions are counted.

    Args:
      items: integers [interactions], the items of the training sessions, one session after another.
      lengths: int64 [sessions], how many items each has.

    Returns:
      exclude_session_items (bool), why (a sentence), repeats and interactions (counts), for the manifest.
    """
    total = len(items)
    repeats = total - sum(_different(part, some) for part, some in _blocks(items, lengths))
    exclude = are_rare(repeats, total)
    if not repeats:
        why = f"none of {total:,} training interactions repeats an item of its session, so these are no candidates"
    elif exclude:
        why = (
            f"{repeats:,} of {total:,} training interactions, fewer than 1 in {1 / RARELY:,.0f}, repeat an item "
            "of their session: session items are no candidates (certain misses among the training targets: "
            f"{repeats:,})"
        )
    else:
        why = (
            f"{repeats:,} of {total:,} training interactions ({repeats / total:.1%}) repeat an item of their "
            "session: sessions return to items, so these stay candidates"
        )
    return {"exclude_session_items": exclude, "why": why, "repeats": repeats, "interactions": total}


def _blocks(items: np.ndarray, lengths: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Whole sessions at a time: their items, and their lengths."""
    stops = np.cumsum(lengths)
    first = row = 0
    while first < len(lengths):
        last = max(int(np.searchsorted(stops, row + BLOCK, side="right")), first + 1)
        yield items[row : stops[last - 1]], lengths[first:last]
        first, row = last, int(stops[last - 1])


def _different(items: np.ndarray, lengths: np.ndarray) -> int:
    """How many pairs of a session and an item there are."""
    session = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)
    pairs = np.sort(session * (int(items.max(initial=0)) + 1) + items)
    return int(np.count_nonzero(np.diff(pairs))) + min(len(pairs), 1)
