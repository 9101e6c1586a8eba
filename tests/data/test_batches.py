"""An epoch holds every prefix once, depends on its key alone, and can be continued anywhere."""

import dataclasses

import jax
import numpy as np
import pytest

from alterrec_jax.contract import PREFIX, WHOLE, SessionBatch, at_prefixes
from alterrec_jax.data.batches import TrainBatches
from alterrec_jax.errors import UserError
from alterrec_jax.nn.segments import right_aligned
from alterrec_jax.sharding import mesh
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


def an_epoch(batches: TrainBatches, key: jax.Array, start: int = 0) -> list[SessionBatch]:
    """The batches of an epoch."""
    return list(batches.epoch(key, start))


def assert_same(found: list[SessionBatch], expected: list[SessionBatch]) -> None:
    """Bit by bit."""
    assert len(found) == len(expected)
    for left, right in zip(found, expected, strict=True):
        jax.tree.map(np.testing.assert_array_equal, left, right)


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


@pytest.mark.parametrize("max_length", [1, 2, 7, 13])
def test_whole_sessions_hold_the_same_prefixes_and_their_last_items(max_length: int) -> None:
    lists, first_target = sessions_of_all_kinds(max_length)
    batches = TrainBatches(make_sessions(lists, first_target), 3 * max_length, max_length, WHOLE)
    epoch = an_epoch(batches, jax.random.key(0))
    seen = [example for rows in epoch for example in oracle.scored(rows)]
    expected = {example.target: example.prefix for example in oracle.examples(lists, first_target)}
    assert sorted(example.target for example in seen) == sorted(expected), "every prefix, and each once"
    assert batches.prefixes == len(expected)
    for visible, target in seen:
        assert expected[target][-len(visible) :] == visible
        assert len(visible) == len(expected[target]) or len(visible) > max_length // 2
    shown = {int(item) for rows in epoch for item in rows.items[rows.segments >= 0]}
    learned = [items for items, first in zip(lists, first_target, strict=True) if first < len(items)]
    assert shown >= {items[-1] for items in learned}
    assert shown <= {item for items in learned for item in items}, "a session without a target is left out"


def test_batches_have_one_shape_and_count_what_they_hold() -> None:
    lists, first_target = sessions_of_all_kinds(7)
    batches = TrainBatches(make_sessions(lists, first_target), batch_prefixes=34, max_length=7)
    epoch = an_epoch(batches, jax.random.key(1))
    assert batches.rows == 5
    assert len(epoch) == batches.steps_per_epoch > 3
    for rows in epoch:
        assert [part.shape for part in rows[:5]] == [(5, 7)] * 3 + [(35,)] * 2
    assert sum(int(rows.is_target.sum()) for rows in epoch) == batches.prefixes
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
        assert list(batches.device_chunks(jax.random.key(0))) == []


def test_a_batch_has_at_least_one_row() -> None:
    batches = TrainBatches(make_sessions([[1, 2, 3]]), 1, 50)
    assert (batches.rows, batches.steps_per_epoch, batches.prefixes) == (1, 1, 2)


def test_more_interactions_than_32_bits_count_are_refused() -> None:
    sessions = dataclasses.replace(make_sessions([[1, 2, 3]]), items=np.broadcast_to(np.int32(1), 2**31))
    with pytest.raises(UserError, match="2,147,483,648 training interactions are too many"):
        TrainBatches(sessions, 1, 50)


@pytest.mark.parametrize("start", [0, 2])
def test_device_chunks_hold_the_batches_of_an_epoch_in_one_shape(start: int) -> None:
    lists, first_target = sessions_of_all_kinds(7)
    batches = TrainBatches(make_sessions(lists, first_target), batch_prefixes=35, max_length=7)
    epoch = an_epoch(batches, jax.random.key(2))
    assert len(epoch) % 5 and (len(epoch) - 2) % 5, "the last chunk is not full"
    found = []
    for count, chunk in batches.device_chunks(jax.random.key(2), start, chunk_bytes=5 * batches.rows * 7 * 21):
        assert chunk.first == start + len(found)
        assert [column.shape for column in chunk.batches[:3]] == [(5, batches.rows, 7)] * 3
        assert chunk.batches.is_target.shape == (5, batches.rows * 7)
        found += [jax.tree.map(lambda column, n=number: column[n], chunk.batches) for number in range(count)]
        assert not chunk.batches.is_target[count:].any()
    assert_same(found, epoch[start:])


def prefix_batches(max_length: int, batch_prefixes: int) -> tuple[TrainBatches, list[oracle.Seen]]:
    """Batches in the layout `prefix`, and what they are to show, sorted."""
    lists, first_target = sessions_of_all_kinds(max_length)
    batches = TrainBatches(make_sessions(lists, first_target), batch_prefixes, max_length, PREFIX)
    wanted = [
        oracle.Seen(example.prefix[-max_length:], example.target) for example in oracle.examples(lists, first_target)
    ]
    return batches, sorted(wanted)


@pytest.mark.parametrize("max_length", [1, 2, 7, 13])
@pytest.mark.parametrize("batch_prefixes", [1, 29, 10_000])
def test_prefixes_are_seen_whole_once_and_in_batches_of_one_size(max_length: int, batch_prefixes: int) -> None:
    batches, wanted = prefix_batches(max_length, batch_prefixes)
    assert batches.prefixes == len(wanted)
    assert batches.steps_per_epoch == -(-len(wanted) // batch_prefixes)
    orders = []
    for seed in (0, 1):
        epoch = an_epoch(batches, jax.random.key(seed))
        seen = [list(oracle.scored(batch)) for batch in epoch]
        assert len(epoch) == batches.steps_per_epoch
        assert sorted(example for some in seen for example in some) == wanted, "the same whatever the key"
        counts = {len(some) for some in seen}
        assert max(counts) <= batch_prefixes and max(counts) - min(counts) <= 1
        assert len({batch.ends.shape for batch in epoch}) == 1 and len(epoch[0].ends) == max(counts)
        assert all(batch.items.shape == (batches.rows, max_length) for batch in epoch)
        orders.append([example for some in seen for example in some])
    assert orders[0] != orders[1] or max_length == 1 and batch_prefixes == 10_000
    held = sum(int((batch.segments >= 0).sum()) for batch in epoch)
    assert batches.fill == pytest.approx(held / (len(epoch) * batches.rows * max_length))


def test_prefixes_continue_where_they_stopped() -> None:
    batches, _ = prefix_batches(7, 29)
    whole = an_epoch(batches, jax.random.key(4))
    for start in range(len(whole) + 1):
        assert_same(an_epoch(batches, jax.random.key(4), start), whole[start:])


@pytest.mark.parametrize("words", ["data:2", "data:8", "data:2,model:2", "model:2"])
def test_prefixes_of_a_mesh_are_those_of_one_device(words: str) -> None:
    batches, _ = prefix_batches(7, 29)
    whole = [sorted(oracle.scored(batch)) for batch in an_epoch(batches, jax.random.key(5), 1)]
    sizes = mesh.named_sizes(words)
    with mesh.used(mesh.make_mesh(words, jax.devices()[: np.prod(list(sizes.values()))])):
        found = []
        for count, chunk in batches.device_chunks(jax.random.key(5), 1):
            on_host = jax.device_get(chunk.batches)
            for number in range(count):
                alone = jax.tree.map(lambda column, n=number: column[n], on_host)
                assert len(alone.items) == mesh.padded(batches.rows, mesh.DATA)
                found.append(sorted(oracle.scored(alone, sizes.get("data", 1))))
    assert found == whole


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_at_prefixes_picks_from_the_rows_of_each_device(devices: int) -> None:
    rows, length, dim, prefixes = 4, 5, 3, 8
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(rows, length, dim)).astype(np.float32)
    ends = rng.integers(0, rows * length // devices, prefixes).astype(np.int32)
    nothing = np.zeros((rows, length), np.int32)
    batch = SessionBatch(nothing, nothing, nothing, ends, ends > 0, ends)
    first = np.repeat(np.arange(devices), prefixes // devices) * (rows * length // devices)
    with mesh.used(mesh.make_mesh(f"data:{devices}", jax.devices()[:devices])):
        found = jax.jit(at_prefixes)(mesh.put(hidden, mesh.BATCH), mesh.put(batch, mesh.BATCH))
    np.testing.assert_array_equal(found, hidden.reshape(-1, dim)[ends + first])
    np.testing.assert_array_equal(at_prefixes(hidden, batch._replace(ends=None)), hidden.reshape(-1, dim))


@pytest.mark.parametrize(("words", "shards"), [("data:1", 1), ("data:2", 2), ("data:2,model:2", 2), ("model:2", 1)])
def test_right_aligned_prefixes_end_in_the_last_column(words: str, shards: int) -> None:
    length = 5
    rows = [[7, 8, 9, 1, 2], [4, 5, 3, 3, 6], [8, 0, 0, 0, 0], [1, 2, 3, 4, 5]]
    positions = [[0, 1, 2, 0, 1], [0, 0, 1, 2, 3], [0, 0, 0, 0, 0], [0, 1, 2, 3, 4]]
    ends = np.array([2, 4, 5, 9, 10, 15, 17, 19])
    expected = [[7, 8, 9], [1, 2], [4], [5, 3, 3, 6], [8], [1], [1, 2, 3], [1, 2, 3, 4, 5]]
    local = ends % (len(rows) * length // shards)  # as each device counts its own
    items, places = np.array(rows, np.int32), np.array(positions, np.int32)
    batch = SessionBatch(items, places, places, local, local > 0, local.astype(np.int32))
    with mesh.used(mesh.make_mesh(words, jax.devices()[: np.prod(list(mesh.named_sizes(words).values()))])):
        found = jax.jit(right_aligned)(mesh.put(batch, mesh.BATCH))
    for row, is_item, prefix in zip(found.items, found.is_item, expected, strict=True):
        before = length - len(prefix)
        assert row.tolist() == [0] * before + prefix and is_item.tolist() == [False] * before + [True] * len(prefix)
    np.testing.assert_array_equal(found.number, ends)
    of_all = right_aligned(batch._replace(ends=None))
    np.testing.assert_array_equal(np.asarray(of_all.items)[ends], found.items)
    np.testing.assert_array_equal(of_all.number, np.arange(items.size))
