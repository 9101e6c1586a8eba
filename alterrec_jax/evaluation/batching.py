"""Batches of one static shape, out of batches as they come, so that nothing is compiled anew on the way."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from alterrec_jax.scoring.prefix_encoder import on_host


def rebatch(
    batches: Iterable[Mapping[str, Any]], names: Iterable[str], size: int
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Cuts batches of any sizes into batches of one size, the last one padded with zeros.

    Args:
      batches: mappings of name to [b, ...], arrays or trees of them; all of a batch have the same b, which may be 0.
      names: which of them are wanted.
      size: rows of each batch that comes out.

    Yields:
      how many of the rows are real, and of each name [size, ...], float32 or int32.
    """
    names = list(names)
    held: dict[str, list[Any]] = {name: [] for name in names}
    count = 0
    for batch in batches:
        arrays = {name: jax.tree.map(on_host, batch[name]) for name in names}
        if len({len(array) for array in arrays.values()}) > 1:
            raise ValueError(f"components of one batch differ in length: { {n: len(a) for n, a in arrays.items()} }")
        start, stop = 0, len(arrays[names[0]])
        while start < stop:
            taken = min(stop - start, size - count)
            for name, array in arrays.items():
                held[name].append(rows_of(array, slice(start, start + taken)))
            start, count = start + taken, count + taken
            if count == size:
                yield count, {name: joined(held[name]) for name in names}
                held, count = {name: [] for name in names}, 0
    if count:
        yield count, {name: padded_rows(joined(held[name]), size) for name in names}


def rows_of(tree: Any, rows: slice) -> Any:
    """Some rows of every array of a tree."""
    return jax.tree.map(lambda array: array[rows], tree)


def joined(trees: list[Any]) -> Any:
    """Trees of NumPy arrays of the same structure, one after another."""
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *trees)


def padded_rows(tree: Any, size: int) -> Any:
    """Every array of a tree with rows of zeros behind it, so that it has `size` of them."""
    return jax.tree.map(lambda array: np.pad(array, ((0, size - len(array)), *((0, 0),) * (array.ndim - 1))), tree)


def default_batch_size(catalogue: int, max_scores: int = 2**22) -> int:
    """The largest power of two, from 8 to 1,024, that keeps the scores of one view to so many if it can.

    2**22 float32 are 16 MiB, which stay in a processor's cache: counting over 64 MiB takes four times as long a row.
    """
    return int(np.clip(2 ** int(np.log2(max(1, max_scores // max(1, catalogue)))), 8, 1024))
