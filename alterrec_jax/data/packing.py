"""Several sessions a row: batches of static shape with little padding, one forward pass for all prefixes.

An input position j of a session is the prefix of its first j+1 items, and what follows is its target. Sessions
longer than a row are cut into windows: every prefix of up to max_length items sees all of them; a longer one sees
its last items, at least max_length - stride + 1 and at most max_length of them (exactly max_length for stride 1).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from alterrec_jax.contract import PackedRows


class Chunks(NamedTuple):
    """Pieces of sessions, each at most a row long.

    Attributes:
      session: int64 [window], the session it is cut from.
      start, stop: int64 [window], its input positions are start .. stop-1.
      scored: int64 [window], the prefixes that end at scored .. stop-1 are its own; those before are context.
    """

    session: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    scored: np.ndarray


class Plan(NamedTuple):
    """Where each window lies. Attributes: row and offset, int64 [window]; rows, how many there are."""

    row: np.ndarray
    offset: np.ndarray
    rows: int


def cut_chunks(first: np.ndarray, stop: np.ndarray, max_length: int, stride: int) -> Chunks:
    """Cuts windows so that the prefixes ending at input positions first .. stop-1 of each session are scored once.

    Args:
      first, stop: int [session]; nothing is scored where first >= stop.
      max_length: the longest window.
      stride: how many prefixes a further window of a long session scores, 1 .. max_length.
    """
    first, stop = np.asarray(first, np.int64), np.asarray(stop, np.int64)
    wanted = np.flatnonzero(first < stop)
    short = wanted[stop[wanted] <= max_length]
    pieces = [(short, np.zeros(len(short), np.int64), stop[short], first[short])]
    for session in wanted[stop[wanted] > max_length]:
        # The first window ends as far as it may while every prefix in it still sees its whole session.
        head = np.arange(max_length, stop[session] + stride, stride).clip(max=stop[session])
        ends = np.unique(head[head > first[session]])
        scored = np.concatenate([[first[session]], ends[:-1]])
        pieces.append((np.full(len(ends), session), np.maximum(ends - max_length, 0), ends, scored))
    return Chunks(*(np.concatenate(column).astype(np.int64) for column in zip(*pieces, strict=True)))


def plan_rows(lengths: np.ndarray, row_length: int) -> Plan:
    """Packs windows into as few rows as best-fit-decreasing finds: the longest first, each into the fullest row.

    Args:
      lengths: int [window], each 1 .. row_length.
    """
    row = np.zeros(len(lengths), np.int64)
    offset = np.zeros(len(lengths), np.int64)
    open_rows: list[list[int]] = [[] for _ in range(row_length + 1)]  # by the room they have left
    rows = 0
    for window in np.argsort(-np.asarray(lengths), kind="stable").tolist():
        length = int(lengths[window])
        room = next((room for room in range(length, row_length) if open_rows[room]), row_length)
        if room == row_length:
            chosen, rows = rows, rows + 1
        else:
            chosen = open_rows[room].pop()
        row[window], offset[window] = chosen, row_length - room
        open_rows[room - length].append(chosen)
    return Plan(row, offset, rows)


def shuffle_plan(plan: Plan, lengths: np.ndarray, random: np.random.Generator) -> Plan:
    """Another plan as full as this one: windows of equal length swap places, and rows are put in random order."""
    slots = np.argsort(lengths, kind="stable")
    windows = np.lexsort((random.random(len(lengths)), lengths))
    place = random.permutation(plan.rows)
    row, offset = np.empty_like(plan.row), np.empty_like(plan.offset)
    row[windows], offset[windows] = place[plan.row[slots]], plan.offset[slots]
    return Plan(row, offset, plan.rows)


def fill_rows(items: np.ndarray, offsets: np.ndarray, windows: Chunks, plan: Plan, row_length: int) -> PackedRows:
    """Writes windows into the rows of a plan.

    Args:
      items: int32 [interactions], the sessions' items one after another, fewer than 2^31.
      offsets: int64 [session + 1], where each session begins.
      windows, plan: what to write, and where.
      row_length: positions of a row.

    Returns:
      PackedRows of NumPy arrays; a session's last item, which nothing follows, has target 0.
    """
    shape = (plan.rows, row_length)
    lengths = windows.stop - windows.start
    window = np.repeat(np.arange(len(lengths)), lengths)
    place = np.arange(len(window)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    at = plan.row[window] * row_length + plan.offset[window] + place
    taken = offsets[windows.session][window] + windows.start[window] + place
    follows = taken + 1 < offsets[windows.session + 1][window]
    source = np.full(shape, -1, np.int32)
    source.flat[at] = taken
    rows = PackedRows(
        items=np.zeros(shape, np.int32),
        targets=np.zeros(shape, np.int32),
        positions=np.zeros(shape, np.int32),
        segments=np.full(shape, -1, np.int32),
        where=np.zeros(shape, bool),
        source=source,
    )
    rows.items.flat[at] = items[taken]
    rows.targets.flat[at[follows]] = items[taken[follows] + 1]
    rows.positions.flat[at] = place
    rows.segments.flat[at] = _segment_numbers(plan)[window]
    rows.where.flat[at] = windows.start[window] + place >= windows.scored[window]
    return rows


def row_blocks(windows: Chunks, plan: Plan, rows: int, start: int = 0) -> Iterator[tuple[Chunks, Plan]]:
    """Yields the windows of `rows` consecutive rows at a time, and their plan, from group number `start` on.

    Each plan is of exactly `rows` rows: the last one is filled up with empty ones.
    """
    order = np.argsort(plan.row, kind="stable")  # so that a group is a slice
    windows = Chunks(*(column[order] for column in windows))
    row, offset = plan.row[order], plan.offset[order]
    groups = -(-plan.rows // rows)
    borders = np.searchsorted(row, np.arange(groups + 1) * rows)
    for group in range(start, groups):
        part = slice(borders[group], borders[group + 1])
        yield Chunks(*(column[part] for column in windows)), Plan(row[part] - group * rows, offset[part], rows)


def _segment_numbers(plan: Plan) -> np.ndarray:
    """int64 [window]: numbers the windows of each row from 0, from left to right."""
    order = np.lexsort((plan.offset, plan.row))
    starts = np.flatnonzero(np.diff(plan.row[order], prepend=-1))
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    return numbers
