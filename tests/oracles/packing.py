"""The slow, obvious twin of packing: every prefix of every session, written out."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from alterrec_jax.contract import SessionBatch


class Example(NamedTuple):
    """A prefix to learn from. Attributes: prefix, all items of the session so far; target, the item that follows."""

    prefix: tuple[int, ...]
    target: int


def examples(sessions: Sequence[Sequence[int]], first_target: Sequence[int]) -> Iterator[Example]:
    """Every prefix whose target stands at its session's first_target or after it."""
    for items, first in zip(sessions, first_target, strict=True):
        for position in range(first, len(items)):
            yield Example(tuple(items[:position]), items[position])


class Seen(NamedTuple):
    """What a prefix of a batch shows. Attributes: visible, its segment's items up to its end; target."""

    visible: tuple[int, ...]
    target: int


def scored(batch: SessionBatch, shards: int = 1) -> Iterator[Seen]:
    """Reads a batch back, prefix by prefix, and asserts that each segment is one unbroken piece.

    Args:
      batch: in either layout.
      shards: equal parts of the rows, from whose first position `ends` counts.
    """
    items, positions, segments = (np.asarray(part).tolist() for part in batch[:3])
    targets, is_target = np.asarray(batch.targets).tolist(), np.asarray(batch.is_target).tolist()
    size, length = np.size(batch.items), len(items[0])
    ends = np.arange(size).tolist() if batch.ends is None else np.asarray(batch.ends).tolist()
    assert len(ends) == len(targets) == len(is_target)
    for number, (end, target) in enumerate(zip(ends, targets, strict=True)):
        if not is_target[number]:
            continue
        if batch.ends is not None:
            end += number // (len(ends) // shards) * (size // shards)
        row, position = divmod(end, length)
        segment = segments[row][position]
        assert segment >= 0
        begin = position - positions[row][position]
        assert begin >= 0
        assert segments[row][begin : position + 1] == [segment] * (position + 1 - begin)
        assert begin == 0 or segments[row][begin - 1] != segment
        assert positions[row][begin : position + 1] == list(range(position + 1 - begin))
        yield Seen(tuple(items[row][begin : position + 1]), target)
