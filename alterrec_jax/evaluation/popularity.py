"""Groups of items by how often they occur in training; the rarest make up the long tail."""

import numpy as np

EDGES = (0, 5, 10, 30, 100)
LONG_TAIL = ("[0, 5)", "[5, 10)")
"""The groups that make up the long tail: items with fewer than ten occurrences in training."""


def popularity_groups(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Of items that occur so often in training, int64 [...], which belong to each group: label -> bool [...]."""
    edges = [*EDGES, np.inf]
    return {f"[{low}, {high})": (low <= counts) & (counts < high) for low, high in zip(edges, edges[1:], strict=False)}
