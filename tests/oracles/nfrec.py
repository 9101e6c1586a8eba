"""The slow, obvious twin of NFRec under a mean encoder: eqs. 7 and 8 of the AlterRec paper, one prefix at a time."""

from collections.abc import Sequence

import numpy as np


def scores(table: np.ndarray, prefix: Sequence[int], temperature: float) -> np.ndarray:
    """float64 [item]: every item's dot product with the mean of the prefix's rows."""
    query = sum(table[item] for item in prefix) / len(prefix)
    return np.array([row @ query / temperature for row in table])


def fused(id_table: np.ndarray, text_table: np.ndarray, operation: str) -> np.ndarray:
    """float64 [item, width]: the fused item embeddings."""
    rows = []
    for x, h in zip(id_table, text_table, strict=True):
        rows.append(x + h if operation == "sum" else np.array([*x, *h]))
    return np.array(rows)


def crossed(id_table: np.ndarray, text_table: np.ndarray, prefix: Sequence[int], temperature: float) -> np.ndarray:
    """float64 [item]: what `sum` adds to the scores of its halves, one half's items on the other half's query."""
    id_query = sum(id_table[item] for item in prefix) / len(prefix)
    text_query = sum(text_table[item] for item in prefix) / len(prefix)
    return np.array([x @ text_query + h @ id_query for x, h in zip(id_table, text_table, strict=True)]) / temperature
