"""What preparation records of times, of the order, and of how models are to be evaluated."""

import json
import pathlib
from typing import Any

import numpy as np
import pytest

from alterrec_jax.data.dataset import Dataset
from data_tools.protocol import protocol_of
from tests.data_tools.examples import prepared, random_clicks, write_csv, write_logs


def test_the_protocol_is_that_of_training(tmp_path: pathlib.Path) -> None:
    def recorded(train: list[str], test: list[str]) -> Dataset:
        sessions = {"a": ("train", train), "b": ("validation", ["i00", "i01"]), "c": ("test", test)}
        rows = [(name, item, part) for name, (part, items) in sessions.items() for item in items]
        return prepared(
            tmp_path,
            interactions=write_csv(tmp_path / "log.csv", ("session_id", "item_id", "part"), rows),
            items=write_csv(tmp_path / "items.csv", ("item_id", "title"), [(f"i{i:02d}", "x") for i in range(3)]),
            split="column",
            split_column="part",
        )

    single = recorded(["i00", "i01", "i02"], ["i00", "i01", "i00"])
    assert single.exclude_session_items and single.manifest["protocol"]["repeats"] == 0
    twice = recorded(["i00", "i01", "i00", "i00"], ["i00", "i01"])
    assert not twice.exclude_session_items
    assert twice.manifest["protocol"]["why"].startswith("2 of 4 training interactions (50.0%) repeat an item")
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["format_version"] == 4


@pytest.mark.parametrize(
    ("repeats", "interactions", "exclude"),
    [(0, 0, True), (0, 5, True), (1, 5, False), (9, 10_000, True), (10, 10_000, False), (6, 399_856, True)],
)
def test_session_items_are_left_out_where_fewer_than_one_in_a_thousand_repeats(
    repeats: int, interactions: int, exclude: bool
) -> None:
    # Pairs of a session: the first `repeats` sessions hold one item twice, the others two different ones.
    numbers = np.arange(interactions)
    second = (numbers % 2 == 1) & (numbers // 2 >= repeats)
    found = protocol_of(second.astype(np.int32), np.unique(numbers // 2, return_counts=True)[1])
    assert (found["exclude_session_items"], found["repeats"]) == (exclude, repeats)
    if repeats and exclude:
        assert found["why"] == (
            f"{repeats} of {interactions:,} training interactions, fewer than 1 in 1,000, repeat an item of their "
            f"session: session items are no candidates (certain misses among the training targets: {repeats})"
        )


@pytest.mark.parametrize("split", ["leave_one_out", "ratio"])
def test_times_that_are_not_shared(tmp_path: pathlib.Path, split: str) -> None:
    # Under leave_one_out the target of validation shares its time with what only test sees.
    clicks = [("a", "i00", 5), ("a", "i01", 3), ("a", "i02", 5), ("a", "i03", 1)]
    clicks += [(name, f"i0{i}", (1, 2, 2, 9)[i]) for name in "bcdefghij" for i in range(4)]
    dataset = prepared(
        tmp_path,
        interactions=write_csv(tmp_path / "log.csv", ("session_id", "item_id", "time"), clicks),
        items=write_csv(tmp_path / "items.csv", ("item_id", "title"), [(f"i0{i}", "x") for i in range(4)]),
        order_column="time",
        split=split,
    )
    assert dataset.splits["train"].alone is None
    for name in ("validation", "test"):
        part = dataset.splits[name]
        assert part.alone is not None and part.alone.dtype == bool
        for row, session in enumerate(part.session_ids):
            alone = [True, True, False, False] if session == "a" else [True, False, False, True]
            start, end = part.offsets[row : row + 2]
            assert part.alone[start:end].tolist() == alone[: end - start]


def test_an_order_that_counts_positions_is_no_time(tmp_path: pathlib.Path) -> None:
    def times(values: list[Any]) -> tuple[bool, bool]:
        clicks = [(name, f"i{i:02d}", values[i]) for name in "abc" for i in range(4)]
        dataset = prepared(
            tmp_path,
            interactions=write_csv(tmp_path / "log.csv", ("session_id", "item_id", "n"), clicks),
            items=write_csv(tmp_path / "items.csv", ("item_id", "title"), [(f"i{i:02d}", "x") for i in range(4)]),
            order_column="n",
        )
        return dataset.manifest["order"]["positions"], dataset.splits["test"].alone is None

    assert times([0, 1, 2, 3]) == times([8, 7, 6, 5]) == (True, True)
    assert times([0, 1, 2, 4]) == times(["0.0", "1.0", "2.0", "3.0"]) == (False, False)
    assert times([f"2024-01-0{i}" for i in range(1, 5)]) == times([1, 1, 2, 3]) == (False, False)


@pytest.mark.parametrize(
    ("tied", "ties", "ordered"), [(9, "random", False), (8, "random", True), (10, "random", False), (10, "file", True)]
)
def test_an_order_is_real_unless_nearly_all_ties_are_random(
    tmp_path: pathlib.Path, tied: int, ties: str, ordered: bool
) -> None:
    clicks = [(name, f"i{i:02d}", max(i - tied + 1, 0) * 7) for name in "abc" for i in range(10)]
    clicks.append(("alone", "i00", 3))  # a session of one item has no order to speak of
    dataset = prepared(tmp_path, **write_logs(tmp_path, clicks), order_column="time", ties=ties)
    assert dataset.manifest["order"]["ordered"] is dataset.ordered is ordered


@pytest.mark.parametrize(("ties", "ordered"), [("random", False), ("file", True)])
def test_without_a_time_the_file_is_an_order_and_a_shuffle_is_none(
    tmp_path: pathlib.Path, ties: str, ordered: bool
) -> None:
    assert prepared(tmp_path, **write_logs(tmp_path, random_clicks(3)), ties=ties).ordered is ordered
