"""The slow, obvious twin of packing: every prefix of every session, written out."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from alterrec_jax.contract import PackedRows


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
    """What a scored position of packed rows shows. Attributes: visible, its segment's items up to it; target."""

    visible: tuple[int, ...]
    target: int


def scored(rows: PackedRows) -> Iterator[Seen]:
    """Reads rows back, position by position, and asserts that each segment is one unbroken piece."""
    items, targets, positions, segments, where = (np.asarray(part).tolist() for part in rows[:5])
    for row in range(len(items)):
        for position in range(len(items[row])):
            if not where[row][position]:
                continue
            segment = segments[row][position]
            assert segment >= 0
            begin = position - positions[row][position]
            assert begin >= 0
            assert segments[row][begin : position + 1] == [segment] * (position + 1 - begin)
            assert begin == 0 or segments[row][begin - 1] != segment
            assert positions[row][begin : position + 1] == list(range(position + 1 - begin))
            yield Seen(tuple(items[row][begin : position + 1]), targets[row][position])
