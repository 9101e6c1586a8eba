"""Several datasets as one: every session has the items that it had, and every item what was known of it."""

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from alterrec_jax.data.dataset import SPLITS, Dataset, load_dataset
from alterrec_jax.errors import UserError
from data_tools import description
from data_tools.domains import join
from tests.conftest import CATALOGUE, ITEMS, write_small_dataset

ENCODER = {"model": "all-MiniLM-L6-v2", "sha256": "1", "fusion": "concat"}
Change = Callable[[dict[str, Any]], None]


def encoded(arguments: dict[str, Any]) -> None:
    """Says which encoder the vectors are of."""
    arguments["provenance"]["text_encoders"] = {"text": ENCODER}


def groceries(arguments: dict[str, Any]) -> None:
    """Another shop with the same ids, other texts and no brands."""
    encoded(arguments)
    items = arguments["items"].drop("brand")
    arguments |= {"items": items.with_columns(pl.col("text") + "!"), "text_vectors": 1 - arguments["text_vectors"]}
    nobody = pl.when(pl.col("session_id") != "train-0").then("user_id")
    alone = pl.col("items").list.eval(pl.element() >= 0).alias("alone")
    arguments["sessions"] = arguments["sessions"].with_columns(nobody, alone)


def two(path: pathlib.Path, first: Change = encoded, second: Change = groceries) -> list[str]:
    """Two folders."""
    changes = {"gifts": first, "groceries": second}
    return [str(write_small_dataset(path / name, change)) for name, change in changes.items()]


def sessions_of(dataset: Dataset, prefix: str = "") -> set[tuple[Any, ...]]:
    """Each session by its split and names, with the ids and the vectors of its items."""
    ids, found = dataset.items["item_id"].to_list(), set()
    for split, part in dataset.splits.items():
        for number in range(len(part)):
            user = part.user_ids[number]
            found.add(
                (
                    split,
                    prefix + part.session_ids[number],
                    user and prefix + user,
                    int(part.first_target[number]),
                    tuple(prefix + ids[item] for item in part[number]),
                    tuple(dataset.text_vectors[part[number]].sum(axis=1).tolist()),
                )
            )
    return found


def test_sessions_and_items_are_those_of_the_domains(tmp_path: pathlib.Path) -> None:
    folders, out = two(tmp_path), tmp_path / "joined"
    told = join(folders, str(out))
    joined, parts = load_dataset(out), [load_dataset(folder) for folder in folders]
    expected = [sessions_of(part, f"{part.path.name}/") for part in parts]
    assert sessions_of(joined) == expected[0] | expected[1]
    assert joined.catalogue_size == 2 * CATALOGUE and len(joined.items) == 2 * ITEMS
    assert joined.items["item_id"][CATALOGUE] == "groceries/B000" and joined.items["text"][CATALOGUE].endswith("!")
    assert "category" in joined.items.columns and "brand" not in joined.items.columns
    manifest = joined.manifest
    assert [(d["name"], d["fingerprint"]) for d in manifest["domains"]] == [
        (part.path.name, part.fingerprint) for part in parts
    ]
    assert manifest["text_encoders"] == {"text": ENCODER} and f"dataset {joined.fingerprint}" in told
    assert all(len(joined.splits[split]) == sum(len(part.splits[split]) for part in parts) for split in SPLITS)
    description.as_text(description.describe(joined))


def other_encoder(arguments: dict[str, Any]) -> None:
    arguments["provenance"]["text_encoders"] = {"text": {**ENCODER, "model": "distiluse", "sha256": "2"}}


def test_texts_of_two_encoders_are_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(
        UserError,
        match="of gifts are of all-MiniLM-L6-v2 .sha256 1, concat., those of groceries of distiluse .sha256 2",
    ):
        join(two(tmp_path, second=other_encoder), str(tmp_path / "joined"))
    assert not (tmp_path / "joined").exists()


def test_what_not_all_have_is_left_out(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    def without_texts(arguments: dict[str, Any]) -> None:
        arguments["text_vectors"] = None

    def with_images(arguments: dict[str, Any]) -> None:
        arguments["vectors"] = {"image": np.ones((ITEMS, 3), np.float32)}

    join(two(tmp_path, with_images, without_texts), str(tmp_path / "joined"))
    assert not load_dataset(tmp_path / "joined").vectors
    told = capsys.readouterr().err
    assert "have text vectors that" in told and "have image vectors that" in told


def test_what_is_no_two_datasets_is_refused(tmp_path: pathlib.Path) -> None:
    folders, out = two(tmp_path), str(tmp_path / "joined")
    for given, to, message in (
        (folders[:1], out, "fewer than two"),
        ([folders[0], folders[0]], out, "two folders of --data_dirs are called gifts"),
        (folders, folders[1], "is one of the folders"),
        ([folders[0], str(tmp_path)], out, "is not a dataset folder"),
    ):
        with pytest.raises(UserError, match=message):
            join(given, to)
