"""What is told and drawn about a dataset."""

import pathlib
from typing import Any

import numpy as np
import polars as pl
import pytest

from alterrec_jax.data.dataset import Dataset, load_dataset
from data_tools import description, description_plot
from tests.conftest import write_small_dataset
from tests.data_tools.examples import as_items, prepared, random_clicks, write_logs


@pytest.fixture
def small(tmp_path: pathlib.Path) -> Dataset:
    logs = write_logs(tmp_path, random_clicks(9))
    return prepared(tmp_path, **logs, order_column="time", split="ratio", min_item_count=6, text_columns="brand")


def test_facts_agree_with_a_slow_count(small: Dataset) -> None:
    facts = description.describe(small)
    for split in small.splits:
        sessions, part = as_items(small, split), facts.splits[split]
        catalogue = set(small.items["item_id"][: small.catalogue_size])
        targets = [(items[:place], items[place]) for _, items, first in sessions for place in range(first, len(items))]
        assert part.targets == len(targets)
        assert part.repeats == sum(target in before for before, target in targets)
        assert part.new_targets == sum(target not in catalogue for _, target in targets)
        assert part.new_last == sum(items[-1] not in catalogue for _, items, _ in sessions)
        assert part.lengths.tolist() == [len(items) for _, items, _ in sessions]
    assert facts.distinct_texts == 3 and facts.sharing_text == len(small.items)
    assert facts.popularity.sum() == len(small.splits["train"].items)


def test_the_text_says_what_one_wants_to_know(small: Dataset) -> None:
    text = description.as_text(description.describe(small))
    for word in (
        "session length",
        "already",
        "outside the catalogue",
        "equal timestamps",
        "items have none",
        "share theirs",
    ):
        assert word in text
    rows = {line.split("  ")[0]: line.split()[-3:] for line in text.splitlines()}
    for name in ("sessions", "interactions"):
        counts = [small.manifest["counts"][split][name] for split in small.splits]
        assert rows[name] == [f"{count:,}" for count in counts]


def test_a_dataset_without_ties_or_users_is_described(tmp_path: pathlib.Path) -> None:
    def change(arguments: dict[str, Any]) -> None:
        nobody = pl.lit(None, dtype=pl.String).alias("user_id")
        arguments["sessions"] = arguments["sessions"].with_columns(nobody)

    facts = description.describe(load_dataset(write_small_dataset(tmp_path / "d", change)))
    assert [part.users for part in facts.splits.values()] == [0, 0, 0]
    lines = description.as_text(facts).splitlines()
    assert [line.split() for line in lines if line.startswith("users")] == [["users", "0", "0", "0"]]
    assert "order: unknown" in lines and lines[-1].endswith("in the source: unknown")
    description_plot.draw(facts, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_top_share() -> None:
    assert description.top_share(np.array([6, 2, 1, 1]), 0.25) == 0.6
    assert description.top_share(np.zeros(0, np.int64), 0.1) == 0.0
