"""Batches of one static shape, out of batches as they come, so that nothing is compiled anew on the way."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np


def rebatch(
    batches: Iterable[Mapping[str, Any]], names: Iterable[str], size: int
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Cuts batches of any sizes into batches of one size, the last one padded with zeros.

    Args:
      batches: mappings of name to [b, ...]; all names of a batch have the same b, which may be 0.
      names: which of them are wanted.
      size: rows of each batch that comes out.

    Yields:
      how many of the rows are real, and of each name float32 [size, ...].
    """
    names = list(names)
    held: dict[str, list[np.ndarray]] = {name: [] for name in names}
    count = 0
    for batch in batches:
        arrays = {name: np.asarray(batch[name], np.float32) for name in names}
        if len({len(array) for array in arrays.values()}) > 1:
            raise ValueError(f"components of one batch differ in length: { {n: len(a) for n, a in arrays.items()} }")
        start, stop = 0, len(arrays[names[0]])
        while start < stop:
            taken = min(stop - start, size - count)
            for name, array in arrays.items():
                held[name].append(array[start : start + taken])
            start, count = start + taken, count + taken
            if count == size:
                yield count, {name: np.concatenate(held[name]) for name in names}
                held, count = {name: [] for name in names}, 0
    if count:
        joined = {name: np.concatenate(held[name]) for name in names}
        yield count, {name: np.pad(array, ((0, size - count), (0, 0))) for name, array in joined.items()}


def default_batch_size(catalogue: int, max_scores: int = 2**22) -> int:
    """The largest power of two, from 8 to 1,024, that keeps the scores of one view to so many if it can.

    2**22 float32 are 16 MiB, which stay in a processor's cache: counting over 64 MiB takes four times as long a row.
    """
    return int(np.clip(2 ** int(np.log2(max(1, max_scores // max(1, catalogue)))), 8, 1024))
