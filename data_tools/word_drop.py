"""Texts without some of their words: what UniSRec contrasts an item with in pretraining."""

import hashlib

import numpy as np
import polars as pl

NAME = "text_dropped"
"""The feature that the vectors of such texts are."""


def without_words(text: str, rate: float, seed: int) -> str:
    """The text, of whose words each is dropped with a probability; one at least stays.

    What is dropped depends on the text and the seed alone, so that another preparation drops the same.
    """
    words = text.split()
    if not words:
        return ""
    digest = hashlib.sha256(f"{seed} {text}".encode()).digest()
    drawn = np.random.default_rng(np.frombuffer(digest, np.uint32)).random(len(words))
    kept = drawn >= min(rate, drawn.max())
    return " ".join(word for word, keep in zip(words, kept, strict=True) if keep)


def dropped(items: pl.DataFrame, columns: list[str], rate: float, seed: int) -> pl.DataFrame:
    """The items, with the texts of some columns changed so."""
    return items.with_columns(
        pl.Series(column, [without_words(text, rate, seed) for text in items[column]], pl.String) for column in columns
    )
