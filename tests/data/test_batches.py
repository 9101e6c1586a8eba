"""An epoch holds every prefix once, depends on its key alone, and can be continued anywhere."""

import dataclasses

import jax
import numpy as np
import pytest

from alterrec_jax.contract import PackedRows
from alterrec_jax.data import batches as module
from alterrec_jax.data.batches import TrainBatches
from alterrec_jax.errors import UserError
from tests.evaluation.examples import make_sessions
from tests.oracles import packing as oracle


def sessions_of_all_kinds(max_length: int) -> tuple[list[list[int]], list[int]]:
    """Sessions whose items occur once in all, so that a prefix tells where it is from; and their first targets."""
    rng = np.random.default_rng(max_length)
    lengths = [*rng.integers(1, 3 * max_length + 2, 30).tolist(), 1, 1, 2, max_length, max_length + 1, max_length + 2]
    borders = np.cumsum([0, *lengths])
    lists = [list(range(1 + low, 1 + high)) for low, high in zip(borders[:-1], borders[1:], strict=True)]
    leave_one_out = rng.random(len(lists)) < 0.3
    return lists, [max(len(items) - 1, 1) if late else 1 for items, late in zip(lists, leave_one_out, strict=True)]


def an_epoch(batches: TrainBatches, key: jax.Array, start: int = 0) -> list[PackedRows]:
    """The batches of an epoch."""
    return list(batches.epoch(key, start))


def assert_same(found: list[PackedRows], expected: list[PackedRows]) -> None:
    """Bit by bit."""
    assert len(found) == len(expected)
    for left, right in zip(found, expected, strict=True):
        for a, b in zip(left, right, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("max_length", [1, 2, 7, 13])
def test_an_epoch_holds_every_prefix_with_its_target_once(max_length: int) -> None:
    lists, first_target = sessions_of_all_kinds(max_length)
    batches = TrainBatches(make_sessions(lists, first_target), batch_prefixes=3 * max_length, max_length=max_length)
    seen = [example for rows in an_epoch(batches, jax.random.key(0)) for example in oracle.scored(rows)]
    expected = {example.target: example.prefix for example in oracle.examples(lists, first_target)}
    assert sorted(example.target for example in seen) == sorted(expected), "every prefix, and each once"
    assert batches.prefixes == len(expected)
    shortest = max_length - max(max_length // 2, 1) + 1
    for visible, target in seen:
        prefix = expected[target]
        assert prefix[-len(visible) :] == visible
        if len(prefix) <= max_length:
            assert visible == prefix
        else:
            assert shortest <= len(visible) <= max_length


def test_batches_have_one_shape_and_count_what_they_hold() -> None:
    lists, first_target = sessions_of_all_kinds(7)
    batches = TrainBatches(make_sessions(lists, first_target), batch_prefixes=34, max_length=7)
    epoch = an_epoch(batches, jax.random.key(1))
    assert batches.rows == 5
    assert len(epoch) == batches.steps_per_epoch > 3
    for rows in epoch:
        assert [part.shape for part in rows] == [(5, 7)] * 6
    assert sum(int(rows.where.sum()) for rows in epoch) == batches.prefixes
    held = sum(int((rows.segments >= 0).sum()) for rows in epoch)
    assert batches.fill == pytest.approx(held / (len(epoch) * 5 * 7))


def test_an_epoch_depends_on_its_key_alone() -> None:
    lists, first_target = sessions_of_all_kinds(7)
    sessions = make_sessions(lists, first_target)
    batches = TrainBatches(sessions, 35, 7)
    first = an_epoch(batches, jax.random.key(2))
    an_epoch(batches, jax.random.key(3))
    assert_same(an_epoch(batches, jax.random.key(2)), first)
    assert_same(an_epoch(TrainBatches(sessions, 35, 7), jax.random.key(2)), first)
    other = an_epoch(batches, jax.random.key(3))
    assert any((a.items != b.items).any() for a, b in zip(first, other, strict=True))


def test_an_epoch_continues_where_it_stopped() -> None:
    lists, first_target = sessions_of_all_kinds(7)
    batches = TrainBatches(make_sessions(lists, first_target), 35, 7)
    whole = an_epoch(batches, jax.random.key(4))
    for start in range(len(whole) + 1):
        assert_same(an_epoch(batches, jax.random.key(4), start), whole[start:])


def test_no_session_of_two_items_gives_no_prefix() -> None:
    for lists in ([[3], [5], []], []):
        batches = TrainBatches(make_sessions(lists), 35, 7)
        assert (batches.prefixes, batches.steps_per_epoch) == (0, 0)
        assert an_epoch(batches, jax.random.key(0)) == []
        assert list(batches.groups(jax.random.key(0))) == []


def test_a_batch_has_at_least_one_row() -> None:
    batches = TrainBatches(make_sessions([[1, 2, 3]]), 1, 50)
    assert (batches.rows, batches.steps_per_epoch, batches.prefixes) == (1, 1, 2)


def test_more_interactions_than_32_bits_count_are_refused() -> None:
    sessions = dataclasses.replace(make_sessions([[1, 2, 3]]), items=np.broadcast_to(np.int32(1), 2**31))
    with pytest.raises(UserError, match="2,147,483,648 training interactions are too many"):
        TrainBatches(sessions, 1, 50)


@pytest.mark.parametrize("start", [0, 2])
def test_groups_hold_the_batches_of_an_epoch_in_one_shape(start: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lists, first_target = sessions_of_all_kinds(7)
    batches = TrainBatches(make_sessions(lists, first_target), batch_prefixes=35, max_length=7)
    monkeypatch.setattr(module, "_GROUP_BYTES", 5 * batches.rows * 7 * 21)
    epoch = an_epoch(batches, jax.random.key(2))
    assert len(epoch) % 5 and (len(epoch) - 2) % 5, "the last group is not full"
    found = []
    for count, group in batches.groups(jax.random.key(2), start):
        assert group.first == start + len(found)
        assert [column.shape for column in group.rows] == [(5, batches.rows, 7)] * 6
        found += [PackedRows(*(column[number] for column in group.rows)) for number in range(count)]
        assert not group.rows.where[count:].any()
    assert_same(found, epoch[start:])
