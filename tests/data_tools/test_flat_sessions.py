"""Sessions as flat arrays, and what is done to a block of them at a time, against what is done to all at once."""

import numpy as np
import polars as pl
import pytest

from data_tools import duplicates
from data_tools.flat_sessions import BLOCK, FlatSessions, blocks
from data_tools.logs import order_sessions
from data_tools.tally import Tally


def lists(sessions: FlatSessions) -> dict[int, list[int]]:
    parts = np.split(sessions.rows["item"].to_numpy(), sessions.stops[:-1])
    return {int(name): part.tolist() for name, part in zip(sessions.session, parts, strict=True)}


@pytest.mark.parametrize("seed", range(3))
def test_some_of_the_sessions_and_of_their_rows(seed: int) -> None:
    random = np.random.default_rng(seed)
    names = np.repeat(np.array([2, 3, 5, 7, 11], np.uint32), random.integers(1, 6, 5))
    table = pl.DataFrame({"session": names, "item": random.integers(0, 9, len(names)), "n": np.arange(len(names))})
    whole = FlatSessions.of(table)
    assert lists(whole) == {n: table.filter(pl.col("session") == n)["item"].to_list() for n in (2, 3, 5, 7, 11)}
    chosen = random.random(5) < 0.5
    expected = {n: items for (n, items), one in zip(lists(whole).items(), chosen, strict=True) if one}
    assert lists(whole.where(chosen)) == expected
    rows = random.random(len(table)) < 0.4
    left = table.filter(pl.Series(rows))
    expected = {n: left.filter(pl.col("session") == n)["item"].to_list() for n in left["session"].unique().sort()}
    assert lists(whole.where_rows(rows)) == expected and whole.where_rows(rows).rows["n"].equals(left["n"])
    assert whole.where(np.ones(5, bool)) is whole and not len(whole.where(np.zeros(5, bool)))


@pytest.mark.parametrize("rows", [1, 7, 40, 10**6])
def test_blocks_hold_whole_sessions_and_each_row_once(rows: int) -> None:
    session = np.random.default_rng(rows).integers(0, 60, 500).astype(np.uint32)
    parts = list(blocks(session, rows))
    assert sorted(np.concatenate(parts).tolist()) == list(range(500))
    seen = [set(session[part].tolist()) for part in parts]
    assert all(max(a) < min(b) for a, b in zip(seen, seen[1:], strict=False))
    assert all((np.diff(part) > 0).all() for part in parts)
    assert len(parts) == 1 if rows >= 500 else len(parts) > 500 // (rows + 20)
    assert [part.tolist() for part in blocks(session[:0], rows)] == [[]]


def test_several_blocks_are_ordered_like_one_table() -> None:
    random, size = np.random.default_rng(5), BLOCK + 300_000
    session = random.integers(0, size // 5, size).astype(np.uint32)
    table = pl.DataFrame(
        {
            "session": session,
            "item": random.integers(0, 50, size).astype(np.uint32),
            "order": random.integers(0, 9, size),
        }
    )
    item_ids = pl.Series([f"i{number:02}" for number in range(50)])
    found, facts = order_sessions(table, item_ids=item_ids, ties="file", seed=0)
    expected = table.sort("session", "order", maintain_order=True)
    assert found.rows["item"].equals(expected["item"]) and found.lengths.sum() == size
    same = (expected["session"].diff() == 0).fill_null(value=False) & (expected["order"].diff() == 0)
    tied = same.fill_null(value=False) | same.shift(-1).fill_null(value=False)
    assert found.rows["alone"].equals(~tied.alias("alone")) and facts["tied_interactions"] == tied.sum()
    before = expected["item"].shift(1)
    pairs = same & (expected["item"] != before)
    assert facts["tied_pairs"] == pairs.sum()
    assert facts["tied_pairs_ascending"] == (pairs & (expected["item"] > before)).sum()
    assert facts["sessions_with_ties"] == expected["session"].filter(tied).n_unique()
    names = duplicates.Names("log", ("s", "i", "o"), pl.Series(["s"]), item_ids)
    left, counted = duplicates.handle(table, "drop", names, Tally())
    unique = table.unique(["session", "item", "order"], keep="first", maintain_order=True)
    assert left.equals(unique) and counted["duplicates"] == size - len(unique)
