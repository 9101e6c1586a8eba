"""Chunks cover every prefix once and show what is promised; plans never overlap and waste little."""

import numpy as np
import pytest

from alterrec_jax.data.packing import (
    Chunks,
    Plan,
    cut_chunks,
    cut_prefixes,
    fill_rows,
    keep_ends,
    plan_batches,
    plan_rows,
    row_blocks,
    shuffle_plan,
)
from tests.evaluation.examples import make_sessions
from tests.oracles import packing as oracle

MAX_LENGTHS = (1, 2, 7, 11)


def cases(seed: int, max_length: int) -> tuple[np.ndarray, np.ndarray]:
    """int64 [session] first and stop: short, long, empty, of one item, with a late first prefix, all shuffled."""
    rng = np.random.default_rng(seed)
    stop = np.concatenate([rng.integers(0, 5 * max_length, 40), [0, 1, max_length - 1, max_length, max_length + 1]])
    first = np.where(rng.random(len(stop)) < 0.5, 0, rng.integers(0, stop + 2))
    return first, stop


@pytest.mark.parametrize("max_length", MAX_LENGTHS)
@pytest.mark.parametrize("part", [0.0, 0.5, 1.0])
def test_every_prefix_is_scored_once_and_sees_what_is_promised(max_length: int, part: float) -> None:
    stride = max(round(part * max_length), 1)
    first, stop = cases(max_length, max_length)
    chunks = cut_chunks(first, stop, max_length, stride)
    found: dict[tuple[int, int], int] = {}
    for session, start, end, scored in zip(*(column.tolist() for column in chunks), strict=True):
        assert 0 <= start <= scored < end <= stop[session]
        assert end - start <= max_length
        for position in range(scored, end):
            assert (session, position) not in found, "a prefix is scored twice"
            found[session, position] = position + 1 - start
    wanted = {(s, p) for s in range(len(stop)) for p in range(int(first[s]), int(stop[s]))}
    assert found.keys() == wanted
    for (_, position), visible in found.items():
        length = position + 1
        if length <= max_length:
            assert visible == length
        else:
            assert max_length - stride + 1 <= visible <= max_length
            assert stride > 1 or visible == max_length


def test_nothing_to_cut_gives_no_chunk() -> None:
    for first, stop in (([], []), ([0, 3, 5], [0, 3, 2]), ([0], [-1])):
        chunks = cut_chunks(np.array(first, np.int64), np.array(stop, np.int64), 7, 3)
        assert [column.shape for column in chunks] == [(0,)] * 4
        assert plan_rows(chunks.stop - chunks.start, 7).rows == 0


def test_expected_chunks_by_hand() -> None:
    chunks = cut_chunks(np.array([0, 0, 9]), np.array([5, 12, 11]), 5, 3)
    assert [tuple(row) for row in np.stack(chunks, axis=1).tolist()] == [
        (0, 0, 5, 0),
        (1, 0, 5, 0),
        (1, 3, 8, 5),
        (1, 6, 11, 8),
        (1, 7, 12, 11),
        (2, 6, 11, 9),
    ]


def occupied(plan: Plan, lengths: np.ndarray, row_length: int) -> np.ndarray:
    """int [row, position]: how many chunks lie there."""
    count = np.zeros((plan.rows, row_length), int)
    for row, offset, length in zip(plan.row, plan.offset, lengths, strict=True):
        assert offset >= 0 and offset + length <= row_length
        count[row, offset : offset + length] += 1
    return count


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("row_length", MAX_LENGTHS)
def test_chunks_never_overlap(seed: int, row_length: int) -> None:
    lengths = np.random.default_rng(seed).integers(1, row_length + 1, 53)
    count = occupied(plan_rows(lengths, row_length), lengths, row_length)
    assert count.max() == 1 and count.sum() == lengths.sum()
    assert count.any(axis=1).all(), "no row is empty"


def test_rows_are_as_few_as_best_fit_finds() -> None:
    assert plan_rows(np.array([3, 7, 4, 2, 1, 4]), 7).rows == 3  # 7 / 4+3 / 4+2+1
    assert plan_rows(np.array([5, 5, 5]), 7).rows == 3
    assert plan_rows(np.ones(15, int), 7).rows == 3


def test_realistic_lengths_fill_nine_tenths() -> None:
    lengths = np.clip(np.random.default_rng(0).geometric(1 / 8, 5000), 1, 50)
    assert lengths.sum() / (plan_rows(lengths, 50).rows * 50) > 0.9


def test_shuffled_plan_is_a_permutation_as_full_as_before() -> None:
    row_length = 11
    lengths = np.random.default_rng(1).integers(1, row_length + 1, 61)
    plan = plan_rows(lengths, row_length)
    shuffled = shuffle_plan(plan, lengths, np.random.default_rng(2))
    assert shuffled.rows == plan.rows
    count = occupied(shuffled, lengths, row_length)
    assert count.max() == 1 and count.sum() == lengths.sum()

    def slots(of: Plan) -> list[tuple[int, ...]]:
        """Of each row, the lengths that lie in it, by offset; rows sorted."""
        order = np.lexsort((of.offset, of.row))
        return sorted(tuple(lengths[i] for i in order if of.row[i] == row) for row in range(of.rows))

    assert slots(shuffled) == slots(plan)
    assert (shuffled.row != plan.row).any()
    other = shuffle_plan(plan, lengths, np.random.default_rng(3))
    assert (shuffled.row != other.row).any()


def test_shuffling_mixes_chunks_of_equal_length_evenly() -> None:
    lengths = np.full(6, 5)
    plan = plan_rows(lengths, 11)  # two a row, three rows
    rng = np.random.default_rng(4)
    together = np.zeros((6, 6))
    draws = 3000
    for _ in range(draws):
        row = shuffle_plan(plan, lengths, rng).row
        together += row[:, None] == row[None, :]
    off_diagonal = together[~np.eye(6, dtype=bool)] / draws
    np.testing.assert_allclose(off_diagonal, 1 / 5, atol=8 * 0.4 / draws**0.5)


def packed(sessions: list[list[int]], max_length: int, stride: int) -> tuple[Chunks, Plan]:
    """The chunks of all prefixes of the sessions, the whole session's included, and their plan."""
    lengths = np.array([len(items) for items in sessions])
    chunks = cut_chunks(np.zeros(len(sessions), int), lengths, max_length, stride)
    return chunks, plan_rows(chunks.stop - chunks.start, max_length)


def test_filled_rows_show_the_sessions_and_where_they_come_from() -> None:
    max_length = 7
    rng = np.random.default_rng(6)
    lists = [rng.integers(1, 97, n).tolist() for n in (3, 1, 7, 19, 2, 0, 8, 5)]
    sessions = make_sessions(lists)
    chunks, plan = packed(lists, max_length, stride=3)
    batch = fill_rows(sessions.items, sessions.offsets, chunks, plan, max_length)
    in_rows, of_prefixes = batch[:3], (batch.targets, batch.is_target, batch.interaction)
    assert [part.dtype for part in (*in_rows, *of_prefixes)] == [np.int32] * 4 + [bool, np.int32]
    assert [part.shape for part in in_rows] == [(plan.rows, max_length)] * 3
    assert [part.shape for part in of_prefixes] == [(plan.rows * max_length,)] * 3
    assert batch.ends is None and batch.users is None
    interaction = batch.interaction
    there = interaction >= 0
    assert there.sum() == (chunks.stop - chunks.start).sum()
    np.testing.assert_array_equal(batch.segments.reshape(-1) >= 0, there)
    np.testing.assert_array_equal(batch.items.reshape(-1)[there], sessions.items[interaction[there]])
    for part in (batch.items, batch.targets, batch.positions, batch.is_target):
        assert not part.reshape(-1)[~there].any()
    # Every position of every session is scored once, and its target is what follows in that session alone.
    assert sorted(interaction[batch.is_target].tolist()) == list(range(len(sessions.items)))
    last = set((sessions.offsets[1:] - 1)[sessions.lengths > 0].tolist())
    for at, target in zip(interaction[there].tolist(), batch.targets[there].tolist(), strict=True):
        assert target == (0 if at in last else sessions.items[at + 1])
    assert len(list(oracle.scored(batch))) == len(sessions.items)
    for row in batch.segments:
        seen = row[row >= 0]
        np.testing.assert_array_equal(np.unique(seen), np.arange(seen.max() + 1))
        assert (np.diff(seen) >= 0).all(), "segments are numbered from left to right"


def test_users_stand_where_their_sessions_do() -> None:
    lists = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10, 11, 12, 13]]
    sessions, users = make_sessions(lists), np.array([31, -1, 7], np.int32)
    chunks, plan = packed(lists, 7, stride=3)
    batch = fill_rows(sessions.items, sessions.offsets, chunks, plan, 7, users)
    whose = {item: user for items, user in zip(lists, users.tolist(), strict=True) for item in items}
    there = batch.segments >= 0
    assert batch.users.dtype == np.int32 and (batch.users[~there] == -1).all()
    assert batch.users[there].tolist() == [whose[item] for item in batch.items[there].tolist()]


@pytest.mark.parametrize("start", [0, 1])
def test_blocks_of_rows_are_slices_of_all_rows(start: int) -> None:
    max_length = 7
    lists = [np.arange(1, n + 1).tolist() for n in (3, 1, 7, 19, 2, 8, 5, 6, 4)]
    sessions = make_sessions(lists)
    chunks, plan = packed(lists, max_length, stride=1)
    whole = fill_rows(sessions.items, sessions.offsets, chunks, plan, max_length)
    blocks = list(row_blocks(chunks, plan, 3, start))
    assert len(blocks) == -(-plan.rows // 3) - start
    for number, (part, of_block) in enumerate(blocks, start):
        rows = fill_rows(sessions.items, sessions.offsets, part, of_block, max_length)
        first = number * 3
        there = min(3, plan.rows - first)
        for got, wanted in zip(rows, whole, strict=True):
            if wanted is None:
                assert got is None
                continue
            got, wanted = got.reshape(3, max_length), wanted.reshape(plan.rows, max_length)
            np.testing.assert_array_equal(got[:there], wanted[first : first + there])
        assert (rows.segments[there:] == -1).all() and not rows.is_target.reshape(3, max_length)[there:].any()


def test_nothing_to_put_in_blocks() -> None:
    nothing = np.zeros(0, np.int64)
    assert list(row_blocks(Chunks(*[nothing] * 4), Plan(nothing, nothing, 0), 3)) == []


@pytest.mark.parametrize("max_length", MAX_LENGTHS)
def test_every_prefix_is_a_chunk_of_its_last_items(max_length: int) -> None:
    first, stop = cases(max_length, max_length)
    chunks = cut_prefixes(first, stop, max_length)
    found = list(zip(*(column.tolist() for column in chunks), strict=True))
    expected = [
        (session, max(end - max_length, 0), end, end - 1)
        for session in range(len(stop))
        for end in range(int(first[session]) + 1, int(stop[session]) + 1)
    ]
    assert found == expected


@pytest.mark.parametrize("count", [1, 4, 7, 40, 41, 97, 200])
@pytest.mark.parametrize("row_length", [1, 7, 13])
def test_batches_of_chunks_have_as_many_rows_and_chunks_of_all_lengths_alike(row_length: int, count: int) -> None:
    lengths = np.random.default_rng(count).integers(1, row_length + 1, 97)
    plan, rows = plan_batches(lengths, row_length, count)
    batches = -(-97 // count)
    assert plan.rows == batches * rows
    assert occupied(plan, lengths, row_length).max() == 1
    batch = plan.row // rows
    sizes = np.bincount(batch, minlength=batches)
    assert sizes.max() <= count and sizes.max() - sizes.min() <= 1
    positions = np.bincount(batch, weights=lengths, minlength=batches)
    assert positions.max() - positions.min() <= row_length, "dealt out by length"
    assert any(plan_rows(lengths[batch == number], row_length).rows == rows for number in range(batches))


def test_a_shuffled_plan_of_batches_keeps_its_batches_together() -> None:
    lengths = np.random.default_rng(0).integers(1, 8, 61)
    plan, rows = plan_batches(lengths, 7, 13)
    shuffled = shuffle_plan(plan, lengths, np.random.default_rng(1), unit=rows)
    assert (shuffled.row != plan.row).any() and occupied(shuffled, lengths, 7).max() == 1

    def contents(of: Plan) -> list[list[tuple[int, int, int]]]:
        """Of each batch, where it has chunks of which lengths; batches sorted."""
        found: dict[int, list[tuple[int, int, int]]] = {}
        for row, offset, length in zip(of.row.tolist(), of.offset.tolist(), lengths.tolist(), strict=True):
            found.setdefault(row // rows, []).append((row % rows, offset, length))
        return sorted(sorted(batch) for batch in found.values())

    assert contents(shuffled) == contents(plan)


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_only_the_ends_of_prefixes_are_kept_of_each_shard(shards: int) -> None:
    max_length, rng = 7, np.random.default_rng(2)
    lists = [rng.integers(1, 97, n).tolist() for n in (3, 9, 7, 2, 5)]
    sessions = make_sessions(lists)
    chunks = cut_prefixes(np.zeros(5, int), sessions.lengths - 1, max_length)
    plan = plan_rows(chunks.stop - chunks.start, max_length)
    plan = plan._replace(rows=plan.rows + -plan.rows % shards)
    whole = fill_rows(sessions.items, sessions.offsets, chunks, plan, max_length)
    most = int(whole.is_target.reshape(shards, -1).sum(axis=1).max())
    kept = keep_ends(whole, most + 1, shards)
    for part in (kept.targets, kept.is_target, kept.ends, kept.interaction):
        assert part.shape == (shards * (most + 1),)
    assert kept.items is whole.items
    assert list(oracle.scored(kept, shards)) == list(oracle.scored(whole))
    np.testing.assert_array_equal(kept.interaction[kept.is_target], whole.interaction[whole.is_target])
    assert (kept.interaction[~kept.is_target] == -1).all() and not kept.targets[~kept.is_target].any()
