"""What is counted from training sessions alone, as sorted edge lists. Nothing here is given another split."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from alterrec_jax.data.dataset import Sessions


class Edges(NamedTuple):
    """A weighted graph of items.

    Attributes:
      source, target: int32 [edge], item numbers, in ascending order of (source, target).
      weight: float32 [edge].
    """

    source: np.ndarray
    target: np.ndarray
    weight: np.ndarray


def cooccurrence(train: Sessions, items: int) -> Edges:
    """In how many training sessions two items stand together; order and repeats within a session do not count.

    An item does not meet itself. Both directions of a pair are there.
    """
    held = held_items(train, items)
    together = (held.T @ held).tocoo()
    order = np.lexsort((together.col, together.row))
    source, target, weight = together.row[order], together.col[order], together.data[order]
    other = source != target
    return Edges(source[other].astype(np.int32), target[other].astype(np.int32), weight[other].astype(np.float32))


def held_items(train: Sessions, items: int) -> scipy.sparse.csr_array:
    """float32 [session, item], 1 where a session holds an item, however often; items from `items` on are left out."""
    known = train.items < items  # SciPy would write beyond its arrays
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(known)])[train.offsets]
    ones, shape = np.ones(int(offsets[-1]), np.float32), (len(train), items)
    held = scipy.sparse.csr_array((ones, train.items[known], offsets), shape=shape)
    held.sum_duplicates()
    held.data[:] = 1
    return held


GRAPHS: Mapping[str, Callable[[Sessions, int], Any]] = {"cooccurrence": cooccurrence}
"""The graphs that a network may read, by name: functions of training sessions and the number of items."""
