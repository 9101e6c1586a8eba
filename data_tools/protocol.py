"""How models are to be evaluated on a dataset, as far as its training sessions tell."""

from typing import Any

import numpy as np

from alterrec_jax.data import targets

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
    repeats = int(targets.repeats(items, np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])).sum())
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
