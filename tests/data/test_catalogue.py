"""A run can be asked about any dataset that holds its items, and about no other."""

import contextlib
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from alterrec_jax.data.catalogue import as_numbered_in, require_encoders, write_catalogue
from alterrec_jax.data.dataset import Dataset, load_dataset
from alterrec_jax.errors import UserError
from tests.conftest import CATALOGUE, ITEMS, write_small_dataset

ENCODER = {"sha256": "abc", "fusion": "concat"}


def write(path: pathlib.Path, change: Callable[[dict[str, Any]], None] = lambda arguments: None) -> Dataset:
    """The small dataset, its texts encoded by `ENCODER`, after a change."""

    def encoded(arguments: dict[str, Any]) -> None:
        arguments["provenance"] = {"text_encoders": {"text": ENCODER}}
        change(arguments)

    return load_dataset(write_small_dataset(path, encoded))


def take(arguments: dict[str, Any], kept: np.ndarray) -> None:
    """Keeps the items of the given numbers, in their order, and renumbers the sessions."""
    number = {int(old): new for new, old in enumerate(kept)}
    arguments["items"], arguments["text_vectors"] = arguments["items"][kept], arguments["text_vectors"][kept]
    sessions = [[number[item] for item in one if item in number] for one in arguments["sessions"]["items"]]
    arguments["sessions"] = arguments["sessions"].with_columns(pl.Series("items", sessions, pl.List(pl.Int32)))


def shuffled(arguments: dict[str, Any]) -> None:
    """Other item numbers, and the two items that only held-out sessions have in the catalogue."""
    take(arguments, np.random.default_rng(3).permutation(ITEMS))
    arguments["catalogue_size"] = ITEMS


def test_items_are_found_by_their_ids(tmp_path: pathlib.Path) -> None:
    own, other = write(tmp_path / "own"), write(tmp_path / "other", shuffled)
    write_catalogue(tmp_path, own)
    found = as_numbered_in(tmp_path, other)
    assert found.catalogue_size == CATALOGUE != other.catalogue_size
    assert found.items["item_id"][:CATALOGUE].to_list() == own.items["item_id"][:CATALOGUE].to_list()
    assert sorted(found.items["item_id"]) == sorted(own.items["item_id"])
    ids = {name: dataset.items["item_id"].to_list() for name, dataset in (("own", own), ("found", found))}
    for number, item in enumerate(ids["found"]):
        np.testing.assert_array_equal(found.text_vectors[number], own.text_vectors[ids["own"].index(item)])
    for split, sessions in own.splits.items():
        assert [ids["found"][i] for i in found.splits[split].items] == [ids["own"][i] for i in sessions.items]
        np.testing.assert_array_equal(found.splits[split].offsets, sessions.offsets)


def with_attributes(arguments: dict[str, Any]) -> None:
    """A price, image words and further vectors of each item; item 3 has none."""
    prices, words = [float(i + 1) for i in range(ITEMS)], [f"word {i}" for i in range(ITEMS)]
    prices[3] = words[3] = None  # type: ignore[call-overload]
    arguments["items"] = arguments["items"].with_columns(price=pl.Series(prices), image_words=pl.Series(words))
    arguments["vectors"] = {"image": np.arange(2 * ITEMS, dtype=np.float32).reshape(ITEMS, 2)}


def test_attributes_are_those_of_the_run(tmp_path: pathlib.Path) -> None:
    def dearer(arguments: dict[str, Any]) -> None:
        with_attributes(arguments)
        arguments["items"] = arguments["items"].with_columns(pl.col("price") * 2)
        kept = np.arange(ITEMS)[::-1].copy()
        arguments["vectors"]["image"] = arguments["vectors"]["image"][kept]
        take(arguments, kept)
        arguments["catalogue_size"] = ITEMS

    own, other = write(tmp_path / "own", with_attributes), write(tmp_path / "other", dearer)
    write_catalogue(tmp_path, own)
    found = as_numbered_in(tmp_path, other)
    expected = [None if i == 3 else i + 1 for i in range(CATALOGUE)]
    assert found.items["price"][:CATALOGUE].to_list() == expected
    # Items of numbers 29 and 30, which the run has no prices for, keep those of the other dataset.
    assert dict(found.items["item_id", "price"][CATALOGUE:].iter_rows()) == {"B029": 60, "B030": 62}
    np.testing.assert_array_equal(found.vectors["image"][:CATALOGUE], own.vectors["image"][:CATALOGUE])
    bare = as_numbered_in(tmp_path, write(tmp_path / "other", with_words_only))
    assert bare.items["price"].to_list() == [*expected, None, None]


def with_words_only(arguments: dict[str, Any]) -> None:
    words = pl.Series("image_words", [None if i == 3 else f"word {i}" for i in range(ITEMS)])
    arguments["items"] = arguments["items"].drop("price").with_columns(words)


def test_other_image_words_are_refused(tmp_path: pathlib.Path) -> None:
    def change(arguments: dict[str, Any]) -> None:
        with_attributes(arguments)
        words = pl.when(pl.int_range(pl.len()).is_in([3, 5])).then(pl.lit("else")).otherwise("image_words")
        arguments["items"] = arguments["items"].with_columns(words.alias("image_words"))

    own = write(tmp_path / "own", with_attributes)
    write_catalogue(tmp_path, own)
    with pytest.raises(UserError, match="other image words .* for 2 items, 'B003' for one"):
        as_numbered_in(tmp_path, write(tmp_path / "other", change))
    with pytest.raises(UserError, match="has no image_words, which .* was trained with"):
        as_numbered_in(tmp_path, write(tmp_path / "bare"))


@pytest.mark.parametrize("damage", ["another column", "an item twice", "no items", "not Parquet"])
def test_a_damaged_catalogue_is_named(damage: str, tmp_path: pathlib.Path) -> None:
    own = write(tmp_path / "own")
    write_catalogue(tmp_path, own)
    path = tmp_path / "catalogue.parquet"
    whole = pl.read_parquet(path)
    damaged = {
        "another column": whole.rename({"item_id": "item"}),
        "an item twice": pl.concat([whole[:1], whole]),
        "no items": whole[:0],
    }
    if damage in damaged:
        damaged[damage].write_parquet(path)
    else:
        path.write_text("item_id,text")
    with pytest.raises(UserError, match="(?s)catalogue.parquet.*give no --data_dir"):
        as_numbered_in(tmp_path, write(tmp_path / "other", shuffled))


def without_an_item(arguments: dict[str, Any]) -> None:
    take(arguments, np.delete(np.arange(ITEMS), 4))
    arguments["catalogue_size"] -= 1


def with_another_text(arguments: dict[str, Any]) -> None:
    texts = arguments["items"]["text"].to_list()
    texts[7] = "something else"
    arguments["items"] = arguments["items"].with_columns(pl.Series("text", texts))


@pytest.mark.parametrize(
    "change, told",
    [
        (without_an_item, "lacks 1 of the 29 items .* 'B004' for one"),
        (with_another_text, "another text .* for 1 items, 'B007' for one"),
    ],
)
def test_other_items_are_refused(tmp_path: pathlib.Path, change: Callable[[dict[str, Any]], None], told: str) -> None:
    own, other = write(tmp_path / "own"), write(tmp_path / "other", change)
    write_catalogue(tmp_path, own)
    with pytest.raises(UserError, match=told):
        as_numbered_in(tmp_path, other)


@pytest.mark.parametrize(
    ("encoders", "message"),
    [
        ({"text": ENCODER}, ""),
        ({"text": ENCODER | {"model": "copy"}, "muse": {"sha256": "unread", "fusion": "mean"}}, ""),
        (
            {"text": ENCODER | {"sha256": "other", "model": "mine"}},
            r"the run reads text vectors of a model \(sha256 abc, concat\), those of .* are of mine \(sha256 other, "
            r"concat\); prepare the dataset with that --text_model and",
        ),
        ({"text": ENCODER | {"fusion": "mean"}}, r"are of a model \(sha256 abc, mean\)"),
        (
            {"text": ENCODER | {"sha256": "other", "given": True}},
            "known by their file alone: give the same --text_vectors",
        ),
        ({}, r"text vectors .* are not made of texts, or not there"),
    ],
)
def test_texts_encoded_otherwise_are_refused_where_they_are_read(
    encoders: dict[str, Any], message: str, tmp_path: pathlib.Path
) -> None:
    other = write(tmp_path, lambda arguments: arguments.update(provenance={"text_encoders": encoders}))
    for record in ({"text_encoders": {"text": ENCODER}}, {"text_encoder": ENCODER}):  # the latter up to one encoder
        with pytest.raises(UserError, match=message) if message else contextlib.nullcontext():
            require_encoders("the run reads", ["text", "image"], record, other)
    with pytest.raises(UserError, match="reads muse vectors of .* prepare .* that --text_models=muse=MODEL"):
        require_encoders("the run reads", ["muse"], {"text_encoders": {"muse": ENCODER}}, other)


def test_a_damaged_catalogue(tmp_path: pathlib.Path) -> None:
    own = write(tmp_path / "own")
    (tmp_path / "catalogue.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(UserError, match="catalogue.parquet cannot be read"):
        as_numbered_in(tmp_path, own)
