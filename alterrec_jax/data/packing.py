"""Several sessions a row: batches of static shape with little padding.

An input position j of a session is the prefix of its first j+1 items, and what follows is its target. In the layout
`packed` a session is a segment, and one causal pass embeds all its prefixes. Sessions longer than a row are cut into
chunks: every prefix of up to max_length items sees all of them; a longer one sees its last items, at least
max_length - stride + 1 and at most max_length of them (exactly max_length for stride 1). In the layout `prefix` each
prefix is a chunk and a segment of its own, its last max_length items.
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from alterrec_jax.contract import SessionBatch

_AT_ONCE = 1 << 16  # numbers as Python's integers, which take five times as much room


class Chunks(NamedTuple):
    """Pieces of sessions, each at most a row long.

    Attributes:
      session: int32 [chunk], the session it is cut from.
      start, stop: int32 [chunk], its input positions are start .. stop-1.
      scored: int32 [chunk], the prefixes that end at scored .. stop-1 are its own; those before are context.
    """

    session: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    scored: np.ndarray


class Plan(NamedTuple):
    """Where each chunk lies. Attributes: row and offset, int32 [chunk]; rows, how many there are."""

    row: np.ndarray
    offset: np.ndarray
    rows: int


def cut_chunks(first: np.ndarray, stop: np.ndarray, max_length: int, stride: int) -> Chunks:
    """Cuts chunks so that the prefixes ending at input positions first .. stop-1 of each session are scored once.

    Args:
      first, stop: int [session]; nothing is scored where first >= stop.
      max_length: the longest chunk.
      stride: how many prefixes a further chunk of a long session scores, 1 .. max_length.
    """
    first, stop = np.asarray(first, np.int64), np.asarray(stop, np.int64)
    wanted = np.flatnonzero(first < stop)
    short = wanted[stop[wanted] <= max_length]
    pieces = [(short, np.zeros(len(short), np.int64), stop[short], first[short])]
    for session in wanted[stop[wanted] > max_length]:
        # The first chunk ends as far as it may while every prefix in it still sees its whole session.
        head = np.arange(max_length, stop[session] + stride, stride).clip(max=stop[session])
        ends = np.unique(head[head > first[session]])
        scored = np.concatenate([[first[session]], ends[:-1]])
        pieces.append((np.full(len(ends), session), np.maximum(ends - max_length, 0), ends, scored))
    return Chunks(*(np.concatenate(column).astype(np.int32) for column in zip(*pieces, strict=True)))


def cut_prefixes(first: np.ndarray, stop: np.ndarray, max_length: int) -> Chunks:
    """A chunk for each prefix that ends at input positions first .. stop-1 of a session: its last max_length items.

    Args:
      first, stop: int [session]; nothing is scored where first >= stop.
      max_length: the longest chunk.
    """
    first, stop = np.asarray(first, np.int64), np.asarray(stop, np.int64)
    count = np.maximum(stop - first, 0)
    session = np.repeat(np.arange(len(count), dtype=np.int32), count)
    end = (np.arange(len(session)) + np.repeat(first + 1 - (np.cumsum(count) - count), count)).astype(np.int32)
    return Chunks(session, np.maximum(end - max_length, 0), end, end - 1)


def plan_rows(lengths: np.ndarray, row_length: int) -> Plan:
    """Packs chunks into as few rows as best-fit-decreasing finds: the longest first, each into the fullest row.

    Args:
      lengths: int [chunk], each 1 .. row_length.
    """
    row, offset = np.zeros(len(lengths), np.int32), np.zeros(len(lengths), np.int32)
    open_rows: list[list[int]] = [[] for _ in range(row_length + 1)]  # by the room they have left
    rows = 0
    order = np.argsort(-np.asarray(lengths), kind="stable")
    some = (order[start : start + _AT_ONCE].tolist() for start in range(0, len(order), _AT_ONCE))
    for chunk in itertools.chain.from_iterable(some):
        length = int(lengths[chunk])
        room = next((room for room in range(length, row_length) if open_rows[room]), row_length)
        if room == row_length:
            chosen, rows = rows, rows + 1
        else:
            chosen = open_rows[room].pop()
        row[chunk], offset[chunk] = chosen, row_length - room
        open_rows[room - length].append(chosen)
    return Plan(row, offset, rows)


def plan_batches(lengths: np.ndarray, row_length: int, chunks: int) -> tuple[Plan, int]:
    """Packs so many chunks a batch into rows; all batches get the same number of rows, and the same mix of lengths.

    Chunks are dealt out by their length, so that one number of rows fits all batches, however long the sessions are.

    Args:
      lengths: int [chunk], each 1 .. row_length.
      row_length: positions of a row.
      chunks: of a batch, at most. Batches differ by one at most, so many have one less, and few batches have some less.

    Returns:
      the plan, the batches one after another, and the rows of a batch.
    """
    count = max(-(-len(lengths) // chunks), 1)
    batch = np.empty(len(lengths), np.int32)
    batch[np.argsort(-np.asarray(lengths), kind="stable")] = np.arange(len(lengths)) % count
    members = np.split(np.argsort(batch, kind="stable"), np.cumsum(np.bincount(batch, minlength=count))[:-1])
    plans = [plan_rows(lengths[some], row_length) for some in members]
    rows = max(plan.rows for plan in plans)
    row, offset = np.zeros(len(lengths), np.int32), np.zeros(len(lengths), np.int32)
    for number, (some, plan) in enumerate(zip(members, plans, strict=True)):
        row[some], offset[some] = number * rows + plan.row, plan.offset
    return Plan(row, offset, count * rows), rows


def shuffle_plan(plan: Plan, lengths: np.ndarray, random: np.random.Generator, unit: int = 1) -> Plan:
    """Another plan as full as this one: chunks of equal length swap places, and rows are put in random order.

    Args:
      plan, lengths: as of `plan_rows`.
      random: what draws.
      unit: rows that stay together, in their order: those of a batch of `plan_batches`.
    """
    slots = np.argsort(lengths, kind="stable")
    chunks = np.lexsort((random.random(len(lengths)), lengths))
    place = random.permutation(plan.rows // unit)
    row, offset = np.empty_like(plan.row), np.empty_like(plan.offset)
    row[chunks] = place[plan.row[slots] // unit] * unit + plan.row[slots] % unit
    offset[chunks] = plan.offset[slots]
    return Plan(row, offset, plan.rows)


def fill_rows(
    items: np.ndarray,
    offsets: np.ndarray,
    chunks: Chunks,
    plan: Plan,
    row_length: int,
    users: np.ndarray | None = None,
) -> SessionBatch:
    """Writes chunks into the rows of a plan; every position ends a prefix, as in the layout `packed`.

    Args:
      items: int32 [interactions], the sessions' items one after another, fewer than 2^31.
      offsets: int64 [session + 1], where each session begins.
      chunks, plan: what to write, and where.
      row_length: positions of a row.
      users: int32 [session], whose each is; None where nobody asks.

    Returns:
      SessionBatch of NumPy arrays; a session's last item, which nothing follows, has target 0.
    """
    shape = (plan.rows, row_length)
    lengths = chunks.stop - chunks.start
    chunk = np.repeat(np.arange(len(lengths)), lengths)
    place = np.arange(len(chunk)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    at = plan.row[chunk] * row_length + plan.offset[chunk] + place
    taken = offsets[chunks.session][chunk] + chunks.start[chunk] + place
    follows = taken + 1 < offsets[chunks.session + 1][chunk]
    count = plan.rows * row_length
    batch = SessionBatch(
        items=np.zeros(shape, np.int32),
        positions=np.zeros(shape, np.int32),
        segments=np.full(shape, -1, np.int32),
        targets=np.zeros(count, np.int32),
        is_target=np.zeros(count, bool),
        interaction=np.full(count, -1, np.int32),
        users=None if users is None else np.full(shape, -1, np.int32),
    )
    batch.items.flat[at] = items[taken]
    batch.positions.flat[at] = place
    batch.segments.flat[at] = _segment_numbers(plan)[chunk]
    batch.targets[at[follows]] = items[taken[follows] + 1]
    batch.is_target[at] = chunks.start[chunk] + place >= chunks.scored[chunk]
    batch.interaction[at] = taken
    if users is not None:
        batch.users.flat[at] = users[chunks.session][chunk]
    return batch


def keep_ends(batch: SessionBatch, prefixes: int, shards: int = 1) -> SessionBatch:
    """The batch in the layout `prefix`: of its positions, only those that end a wanted prefix meet the catalogue.

    Args:
      batch: as of `fill_rows`, of chunks that are prefixes.
      prefixes: how many each shard of the rows gets; those beyond the wanted ones are padding.
      shards: equal parts of the rows, one a device along the mesh's axis `data`.
    """
    size = batch.is_target.size // shards
    ends = np.zeros((shards, prefixes), np.int32)
    where = np.zeros((shards, prefixes), bool)
    for shard, part in enumerate(batch.is_target.reshape(shards, size)):
        found = np.flatnonzero(part)
        ends[shard, : len(found)], where[shard, : len(found)] = found, True
    taken = (np.arange(shards)[:, None] * size + ends).reshape(-1)
    is_target = where.reshape(-1)
    return batch._replace(
        targets=np.where(is_target, batch.targets[taken], 0).astype(np.int32),
        is_target=is_target,
        ends=ends.reshape(-1),
        interaction=np.where(is_target, batch.interaction[taken], -1).astype(np.int32),
    )


def row_blocks(chunks: Chunks, plan: Plan, rows: int, start: int = 0) -> Iterator[tuple[Chunks, Plan]]:
    """Yields the chunks of `rows` consecutive rows at a time, and their plan, from block number `start` on.

    Each plan is of exactly `rows` rows: the last one is filled up with empty ones.
    """
    order = np.argsort(plan.row, kind="stable")  # so that a block is a slice
    chunks = Chunks(*(column[order] for column in chunks))
    row, offset = plan.row[order], plan.offset[order]
    blocks = -(-plan.rows // rows)
    borders = np.searchsorted(row, np.arange(blocks + 1) * rows)
    for block in range(start, blocks):
        part = slice(borders[block], borders[block + 1])
        yield Chunks(*(column[part] for column in chunks)), Plan(row[part] - block * rows, offset[part], rows)


def _segment_numbers(plan: Plan) -> np.ndarray:
    """int64 [chunk]: numbers the chunks of each row from 0, from left to right."""
    order = np.lexsort((plan.offset, plan.row))
    starts = np.flatnonzero(np.diff(plan.row[order], prepend=-1))
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    return numbers
