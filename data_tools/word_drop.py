"""Texts without some of their words: what UniSRec contrasts an item with in pretraining."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from data_tools import encode_text
from data_tools.options import Options


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


def encode(
    items: pl.DataFrame, text_columns: Sequence[str], encoder: encode_text.Encoder, options: Options
) -> np.ndarray:
    """float32 [items, width], the vectors of such texts; arguments as of `text_features.encode`."""
    changed = items.with_columns(
        pl.Series(column, [without_words(text, options.word_drop, options.seed) for text in items[column]], pl.String)
        for column in ("text", *text_columns)
    )
    return encode_text.encode_items(changed, text_columns, options.text_fusion, encoder, options.cache_dir)


def note(options: Options) -> dict[str, Any]:
    """What the manifest says of them."""
    if not options.word_drop:
        return {}
    return {"rule": f"of the texts without {options.word_drop:.0%} of their words (seed {options.seed})"}
