"""A dataset folder comes back as it was written, or is refused by name, with the remedy."""

import hashlib
import json
import pathlib
from typing import Any

import numpy as np
import polars as pl
import pytest

from alterrec_jax.data.dataset import Dataset, load_dataset
from alterrec_jax.data.features import catalogue_info
from alterrec_jax.errors import UserError
from tests.conftest import CATALOGUE, ITEMS, small_tables, write_small_dataset
from tests.data.examples import seal, write_changed


def test_what_was_written_is_read(dataset: Dataset) -> None:
    items, sessions, vectors = small_tables()
    assert dataset.items.equals(items)
    np.testing.assert_array_equal(dataset.text_vectors, vectors)
    assert isinstance(dataset.text_vectors, np.memmap) and dataset.text_vectors.dtype == np.float32
    assert (dataset.catalogue_size, len(dataset.items)) == (CATALOGUE, ITEMS)
    assert (dataset.manifest["source"], dataset.manifest["seed"]) == ("synthetic", 7)
    for split, part in dataset.splits.items():
        expected = sessions.filter(pl.col("split") == split)
        assert [part[i].tolist() for i in range(len(part))] == expected["items"].to_list()
        assert part.lengths.tolist() == [len(one) for one in expected["items"].to_list()]
        assert part.first_target.tolist() == expected["first_target"].to_list()
        assert part.session_ids.to_list() == expected["session_id"].to_list()
        assert part.user_ids.to_list() == expected["user_id"].to_list()
        assert (part.items.dtype, part.offsets.dtype, part.first_target.dtype) == (np.int32, np.int64, np.int32)


def attributes() -> dict[str, pl.Series]:
    """A column of each kind for the small dataset: item 0 has everything, item 1 nothing."""
    rest = ITEMS - 2
    return {
        "price": pl.Series([2.5, None, *[1.0] * rest]),
        "category": pl.Series(["soap", None, *["tea"] * rest]),
        "brand": pl.Series(["Acme", None, *["Other"] * rest]),
        "attributes": pl.Series([["brand=Acme", "kind=soap"], None, *[[]] * rest], dtype=pl.List(pl.String)),
        "image": pl.Series(["a/b.png", None, *[None] * rest]),
        "image_sha256": pl.Series(["0" * 64, None, *[None] * rest], dtype=pl.String),
        "image_words": pl.Series(["soap, lotion", None, *[None] * rest]),
    }


def with_everything(arguments: dict[str, Any]) -> None:
    """Adds each optional attribute, two further vectors, times of the held-out sessions and a protocol."""
    arguments["items"] = arguments["items"].with_columns(**attributes())
    arguments["vectors"] = {
        "image": np.tile(np.arange(3, dtype=np.float64), (ITEMS, 1)) * np.arange(ITEMS)[:, None],
        "b": np.ones((ITEMS, 2), np.float32),
    }
    alone = [
        None if split == "train" else [i % 3 == 0 for i in items]
        for split, items in zip(arguments["sessions"]["split"], arguments["sessions"]["items"].to_list(), strict=True)
    ]
    arguments["sessions"] = arguments["sessions"].with_columns(pl.Series("alone", alone, pl.List(pl.Boolean)))
    arguments["provenance"] |= {"protocol": {"exclude_session_items": True, "why": "no item twice"}}


def test_attributes_vectors_and_times_come_back(tmp_path: pathlib.Path) -> None:
    found = write_changed(tmp_path / "d", with_everything)
    for name, column in attributes().items():
        assert found.items[name].to_list() == column.to_list(), name
    assert sorted(found.vectors) == ["b", "image", "text"]
    image = found.vectors["image"]
    assert isinstance(image, np.memmap) and image.dtype == np.float32 and image[5].tolist() == [0, 5, 10]
    assert found.has_vector("image").tolist() == [False] + [True] * (ITEMS - 1)
    np.testing.assert_array_equal(found.text_vectors, small_tables()[2])
    assert found.splits["train"].alone is None
    for split in ("validation", "test"):
        part = found.splits[split]
        assert part.alone is not None and part.alone.tolist() == [i % 3 == 0 for i in part.items]
    assert found.exclude_session_items and found.manifest["format_version"] == 4


def test_renumbering_carries_every_feature(tmp_path: pathlib.Path) -> None:
    found = write_changed(tmp_path / "d", with_everything)
    order = np.random.default_rng(5).permutation(ITEMS)
    other = found.renumbered(order, CATALOGUE)
    assert other.items["price"].to_list() == [found.items["price"][int(i)] for i in order]
    for name, rows in found.vectors.items():
        np.testing.assert_array_equal(other.vectors[name], rows[order])
    assert other.splits["test"].alone is found.splits["test"].alone
    np.testing.assert_array_equal(other.splits["test"].users, found.splits["test"].users)


def test_a_folder_of_version_1_is_read(tmp_path: pathlib.Path) -> None:
    def change(arguments: dict[str, Any]) -> None:
        arguments["items"] = arguments["items"].select("item_id", "name", "text")  # it knew no attributes

    path = write_small_dataset(tmp_path / "d", change)
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["digest"]
    manifest["format_version"] = 1
    # The fingerprint of version 1, in its own words.
    files = ("items.parquet", "text_vectors.npy", "sessions.parquet")
    named = [CATALOGUE, *(hashlib.sha256((path / name).read_bytes()).hexdigest() for name in files)]
    manifest["fingerprint"] = hashlib.sha256(json.dumps(named).encode()).hexdigest()[:16]
    seal(path, manifest)
    found = load_dataset(path)
    assert list(found.vectors) == ["text"] and found.items.columns == ["item_id", "name", "text"]
    assert not found.exclude_session_items
    assert all(part.alone is None for part in found.splits.values())


@pytest.mark.parametrize(
    ("order", "ordered"),
    [
        (None, True),
        ({}, True),
        ({"rule": "by time", "tied_interactions": 40, "sessions_with_ties": 9}, True),
        ({"rule": "random inside a basket (seed 0), for its rows are sorted by product id"}, False),
        ({"rule": "a random order (seed 3), for no --order_column is given"}, False),
        ({"rule": "by column 'n'", "ties": "random", "interactions": 100, "tied_interactions": 90}, False),
        ({"rule": "by column 'n'", "ties": "random", "interactions": 100, "tied_interactions": 89}, True),
        ({"rule": "by column 'n'", "ties": "file", "interactions": 100, "tied_interactions": 100}, True),
        ({"rule": "by column 'n'", "ties": "random", "interactions": 0, "tied_interactions": 0}, True),
        ({"rule": "random, as it happens", "ordered": True}, True),
        ({"rule": "by column 'n'", "ordered": False}, False),
    ],
)
def test_whether_sessions_are_ordered(tmp_path: pathlib.Path, order: dict[str, Any] | None, ordered: bool) -> None:
    def change(arguments: dict[str, Any]) -> None:
        if order is not None:
            arguments["provenance"]["order"] = order

    found = write_changed(tmp_path / "d", change)
    assert found.ordered is catalogue_info(found).ordered is ordered


def test_users_are_numbered_by_training(tmp_path: pathlib.Path) -> None:
    def change(arguments: dict[str, Any]) -> None:
        users = {"train": ["b", None, "a", "b"], "validation": ["c", "b"], "test": [None, "a"]}
        rows = [(split, f"{split}{i}", user, [0, 1], 1) for split, of in users.items() for i, user in enumerate(of)]
        arguments["sessions"] = pl.DataFrame(rows, schema=arguments["sessions"].schema, orient="row")

    dataset = write_changed(tmp_path / "d", change)
    splits = dataset.splits
    assert dataset.known_users == 2
    assert {split: part.users.tolist() for split, part in splits.items()} == {
        "train": [1, -1, 0, 1],
        "validation": [-1, 1],
        "test": [-1, 0],
    }
    assert splits["test"].user_names.to_list() == ["a", "b"] and splits["test"].users.dtype == np.int32


@pytest.mark.parametrize("name", ["text", "image"])
def test_vectors_that_cannot_be_meant_are_refused(tmp_path: pathlib.Path, name: str) -> None:
    def change(arguments: dict[str, Any]) -> None:
        arguments["vectors"] = {name: np.ones((ITEMS - (name == "image"), 2))}

    with pytest.raises(ValueError, match="text' is the name|image vectors have 30 rows for 31 items"):
        write_small_dataset(tmp_path / "d", change)


def test_counts_are_those_of_the_sessions(dataset: Dataset) -> None:
    _, sessions, _ = small_tables()
    for split in ("train", "validation", "test"):
        lists = sessions.filter(pl.col("split") == split)["items"].to_list()
        assert dataset.manifest["counts"][split] == {
            "sessions": len(lists),
            "interactions": sum(map(len, lists)),
            "prefixes": sum(len(items) - 1 for items in lists),
        }
    clicked = [item for items in sessions.filter(pl.col("split") == "train")["items"].to_list() for item in items]
    assert dataset.train_counts.tolist() == [clicked.count(item) for item in range(ITEMS)]


def test_the_fingerprint_names_the_content(tmp_path: pathlib.Path, dataset: Dataset) -> None:
    def fewer_sessions(arguments: dict[str, Any]) -> None:
        arguments["sessions"] = arguments["sessions"].head(50)

    def other_vectors(arguments: dict[str, Any]) -> None:
        arguments["text_vectors"] = -arguments["text_vectors"]

    def larger_catalogue(arguments: dict[str, Any]) -> None:
        arguments["catalogue_size"] = ITEMS

    def further_vectors(arguments: dict[str, Any]) -> None:
        arguments["vectors"] = {"image": np.ones((ITEMS, 2))}

    def other_further_vectors(arguments: dict[str, Any]) -> None:
        arguments["vectors"] = {"image": np.zeros((ITEMS, 2))}

    def prices(arguments: dict[str, Any]) -> None:
        arguments["items"] = arguments["items"].with_columns(price=pl.lit(1.5))

    assert write_changed(tmp_path / "same", lambda _: None).fingerprint == dataset.fingerprint
    changes = (fewer_sessions, other_vectors, larger_catalogue, further_vectors, other_further_vectors, prices)
    prints = [write_changed(tmp_path / "other", change).fingerprint for change in changes]
    assert len({dataset.fingerprint, *prints}) == 1 + len(changes)


def test_a_split_may_be_empty_and_a_user_unknown(tmp_path: pathlib.Path) -> None:
    def change(arguments: dict[str, Any]) -> None:
        nobody = pl.lit(None, dtype=pl.String).alias("user_id")
        arguments["sessions"] = arguments["sessions"].filter(pl.col("split") == "train").with_columns(nobody)

    found = write_changed(tmp_path / "d", change)
    assert len(found.splits["test"]) == 0 and found.splits["test"].items.shape == (0,)
    assert found.splits["train"].user_ids.null_count() == len(found.splits["train"])


@pytest.mark.parametrize("name", ["log.csv", "checkpoints/0", "image_vectors.npy"])
def test_what_is_not_of_the_dataset_is_not_lost_with_it(tmp_path: pathlib.Path, name: str) -> None:
    path = write_small_dataset(tmp_path / "d")
    mine = path / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    with pytest.raises(UserError, match=f"holds '{name.split('/')[0]}', which would be lost"):
        write_small_dataset(path)
    assert mine.read_text() == "mine"
    assert load_dataset(path).catalogue_size == CATALOGUE


def test_all_of_an_earlier_dataset_gives_way_to_the_next(tmp_path: pathlib.Path) -> None:
    write_changed(tmp_path / "d", with_everything)
    (tmp_path / "d" / "describe.png").write_bytes(b"picture")
    write_small_dataset(tmp_path / "d")
    names = ["items.parquet", "manifest.json", "sessions", "sessions.parquet", "text_vectors.npy"]
    assert sorted(entry.name for entry in (tmp_path / "d").iterdir()) == names


def test_a_write_that_fails_leaves_the_old_folder_and_nothing_else(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_small_dataset(tmp_path / "d")
    before = {file: file.read_bytes() for file in path.rglob("*.*")}
    assert len(before) == 13  # three tables and the manifest, three arrays of each split

    def full_disk(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full_disk)
    for folder in (path, tmp_path / "new"):
        with pytest.raises(UserError, match="cannot be written .*No space left"):
            write_small_dataset(folder)
    assert {file: file.read_bytes() for file in path.rglob("*.*")} == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["d"]
