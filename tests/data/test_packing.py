"""Windows cover every prefix once and show what is promised; plans never overlap and waste little."""

import numpy as np
import pytest

from alterrec_jax.data.packing import Chunks, Plan, cut_chunks, fill_rows, plan_rows, row_blocks, shuffle_plan
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
    windows = cut_chunks(first, stop, max_length, stride)
    found: dict[tuple[int, int], int] = {}
    for session, start, end, scored in zip(*(column.tolist() for column in windows), strict=True):
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


def test_nothing_to_cut_gives_no_window() -> None:
    for first, stop in (([], []), ([0, 3, 5], [0, 3, 2]), ([0], [-1])):
        windows = cut_chunks(np.array(first, np.int64), np.array(stop, np.int64), 7, 3)
        assert [column.shape for column in windows] == [(0,)] * 4
        assert plan_rows(windows.stop - windows.start, 7).rows == 0


def test_expected_windows_by_hand() -> None:
    windows = cut_chunks(np.array([0, 0, 9]), np.array([5, 12, 11]), 5, 3)
    assert [tuple(row) for row in np.stack(windows, axis=1).tolist()] == [
        (0, 0, 5, 0),
        (1, 0, 5, 0),
        (1, 3, 8, 5),
        (1, 6, 11, 8),
        (1, 7, 12, 11),
        (2, 6, 11, 9),
    ]


def occupied(plan: Plan, lengths: np.ndarray, row_length: int) -> np.ndarray:
    """int [row, position]: how many windows lie there."""
    count = np.zeros((plan.rows, row_length), int)
    for row, offset, length in zip(plan.row, plan.offset, lengths, strict=True):
        assert offset >= 0 and offset + length <= row_length
        count[row, offset : offset + length] += 1
    return count


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("row_length", MAX_LENGTHS)
def test_windows_never_overlap(seed: int, row_length: int) -> None:
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


def test_shuffling_mixes_windows_of_equal_length_evenly() -> None:
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
    """The windows of all prefixes of the sessions, the whole session's included, and their plan."""
    lengths = np.array([len(items) for items in sessions])
    windows = cut_chunks(np.zeros(len(sessions), int), lengths, max_length, stride)
    return windows, plan_rows(windows.stop - windows.start, max_length)


def test_filled_rows_show_the_sessions_and_where_they_come_from() -> None:
    max_length = 7
    rng = np.random.default_rng(6)
    lists = [rng.integers(1, 97, n).tolist() for n in (3, 1, 7, 19, 2, 0, 8, 5)]
    sessions = make_sessions(lists)
    windows, plan = packed(lists, max_length, stride=3)
    rows = fill_rows(sessions.items, sessions.offsets, windows, plan, max_length)
    assert [part.dtype for part in rows] == [np.int32] * 4 + [bool, np.int32]
    source = rows.source
    there = source >= 0
    assert there.sum() == (windows.stop - windows.start).sum()
    np.testing.assert_array_equal(rows.segments >= 0, there)
    np.testing.assert_array_equal(rows.items[there], sessions.items[source[there]])
    for part in (rows.items, rows.targets, rows.positions, rows.where):
        assert not part[~there].any()
    # Every position of every session is scored once, and its target is what follows in that session alone.
    assert sorted(source[rows.where].tolist()) == list(range(len(sessions.items)))
    last = set((sessions.offsets[1:] - 1)[sessions.lengths > 0].tolist())
    for at, target in zip(source[there].tolist(), rows.targets[there].tolist(), strict=True):
        assert target == (0 if at in last else sessions.items[at + 1])
    assert len(list(oracle.scored(rows))) == len(sessions.items)
    for row in rows.segments:
        seen = row[row >= 0]
        np.testing.assert_array_equal(np.unique(seen), np.arange(seen.max() + 1))
        assert (np.diff(seen) >= 0).all(), "segments are numbered from left to right"


@pytest.mark.parametrize("start", [0, 1])
def test_groups_of_rows_are_slices_of_all_rows(start: int) -> None:
    max_length = 7
    lists = [np.arange(1, n + 1).tolist() for n in (3, 1, 7, 19, 2, 8, 5, 6, 4)]
    sessions = make_sessions(lists)
    windows, plan = packed(lists, max_length, stride=1)
    whole = fill_rows(sessions.items, sessions.offsets, windows, plan, max_length)
    groups = list(row_blocks(windows, plan, 3, start))
    assert len(groups) == -(-plan.rows // 3) - start
    for number, (part, place) in enumerate(groups, start):
        rows = fill_rows(sessions.items, sessions.offsets, part, place, max_length)
        first = number * 3
        there = min(3, plan.rows - first)
        for got, wanted in zip(rows, whole, strict=True):
            assert got.shape == (3, max_length)
            np.testing.assert_array_equal(got[:there], wanted[first : first + there])
        assert (rows.segments[there:] == -1).all() and not rows.where[there:].any()


def test_nothing_to_group() -> None:
    nothing = np.zeros(0, np.int64)
    assert list(row_blocks(Chunks(*[nothing] * 4), Plan(nothing, nothing, 0), 3)) == []
