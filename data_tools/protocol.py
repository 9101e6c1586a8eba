"""How models are to be evaluated on a dataset, as far as its training sessions tell."""

from typing import Any

import polars as pl


def protocol_of(train: pl.DataFrame) -> dict[str, Any]:
    """Whether a session's own items can be left out of what is recommended.

    Where sessions never hold an item twice (baskets of one line an item, reviews), recommending what a session holds
    is wrong by construction; where they do, it can be right. Only training sessions are counted.

    Args:
      train: columns session and item, of the training sessions.

    Returns:
      exclude_session_items (bool), why (a sentence), repeats and interactions (counts), for the manifest.
    """
    repeats = len(train) - train.select("session", "item").n_unique()
    share = f"{repeats:,} of {len(train):,} training interactions ({repeats / max(len(train), 1):.1%})"
    why = (
        f"{share} repeat an item of their session: sessions return to items, so these stay candidates"
        if repeats
        else f"none of {len(train):,} training interactions repeats an item of its session, so these are no candidates"
    )
    return {"exclude_session_items": not repeats, "why": why, "repeats": repeats, "interactions": len(train)}
