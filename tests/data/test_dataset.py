"""A dataset folder comes back as it was written, or is refused by name, with the remedy."""

import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from alterrec_jax.data.dataset import Dataset, load_dataset
from alterrec_jax.errors import UserError
from tests.conftest import CATALOGUE, ITEMS, TEXT_WIDTH, small_tables, write_small_dataset


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


def write_changed(path: pathlib.Path, change: Callable[[dict[str, Any]], None]) -> Dataset:
    """The small dataset, changed before it is written, as it is read."""
    return load_dataset(write_small_dataset(path, change))


def test_the_fingerprint_names_the_content(tmp_path: pathlib.Path, dataset: Dataset) -> None:
    def fewer_sessions(arguments: dict[str, Any]) -> None:
        arguments["sessions"] = arguments["sessions"].head(50)

    def other_vectors(arguments: dict[str, Any]) -> None:
        arguments["text_vectors"] = -arguments["text_vectors"]

    def larger_catalogue(arguments: dict[str, Any]) -> None:
        arguments["catalogue_size"] = ITEMS

    assert write_changed(tmp_path / "same", lambda _: None).fingerprint == dataset.fingerprint
    for change in (fewer_sessions, other_vectors, larger_catalogue):
        assert write_changed(tmp_path / "other", change).fingerprint != dataset.fingerprint


def test_a_split_may_be_empty_and_a_user_unknown(tmp_path: pathlib.Path) -> None:
    def change(arguments: dict[str, Any]) -> None:
        nobody = pl.lit(None, dtype=pl.String).alias("user_id")
        arguments["sessions"] = arguments["sessions"].filter(pl.col("split") == "train").with_columns(nobody)

    found = write_changed(tmp_path / "d", change)
    assert len(found.splits["test"]) == 0 and found.splits["test"].items.shape == (0,)
    assert found.splits["train"].user_ids.null_count() == len(found.splits["train"])


def change_manifest(path: pathlib.Path, **changes: Any) -> None:
    """Sets fields of a manifest."""
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, **changes}))


def truncate(path: pathlib.Path) -> None:
    """Cuts a file in half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def save_vectors(path: pathlib.Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Writes other text vectors."""
    np.save(path / "text_vectors.npy", change(small_tables()[2].copy()))


def with_nan(vectors: np.ndarray) -> np.ndarray:
    vectors[17, 2] = np.nan
    return vectors


def flip_last_byte(path: pathlib.Path) -> None:
    """Changes one byte of the data, in place."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def without_column(path: pathlib.Path, column: str) -> None:
    pl.read_parquet(path).drop(column).write_parquet(path)


DAMAGES: dict[str, tuple[Callable[[pathlib.Path], Any], str]] = {
    "no manifest": (lambda d: (d / "manifest.json").unlink(), "manifest"),
    "half a manifest": (lambda d: truncate(d / "manifest.json"), "manifest.json"),
    "manifest of another program": (lambda d: (d / "manifest.json").write_text('{"name": "x"}'), "alterrec-dataset"),
    "manifest is a list": (lambda d: (d / "manifest.json").write_text("[]"), "alterrec-dataset"),
    "other version": (lambda d: change_manifest(d, format_version=99), "99"),
    "manifest without hashes": (lambda d: change_manifest(d, files=None), "manifest"),
    "other catalogue": (lambda d: change_manifest(d, counts={"items": ITEMS, "catalogue": 7}), "manifest"),
    "no items": (lambda d: (d / "items.parquet").unlink(), "items.parquet"),
    "no sessions": (lambda d: (d / "sessions.parquet").unlink(), "sessions.parquet"),
    "no vectors": (lambda d: (d / "text_vectors.npy").unlink(), "text_vectors.npy"),
    "half the items": (lambda d: truncate(d / "items.parquet"), "items.parquet"),
    "half the sessions": (lambda d: truncate(d / "sessions.parquet"), "sessions.parquet"),
    "half the vectors": (lambda d: truncate(d / "text_vectors.npy"), "text_vectors.npy"),
    "empty vectors": (lambda d: (d / "text_vectors.npy").write_bytes(b""), "text_vectors.npy"),
    "a column less": (lambda d: without_column(d / "items.parquet", "name"), "'name'"),
    "NaN": (lambda d: save_vectors(d, with_nan), "row 17"),
    "a vector less": (lambda d: save_vectors(d, lambda v: v[:-1]), f"({ITEMS - 1}, {TEXT_WIDTH})"),
    "flat vectors": (lambda d: save_vectors(d, np.ravel), f"({ITEMS * TEXT_WIDTH},)"),
    "a byte of the vectors": (lambda d: flip_last_byte(d / "text_vectors.npy"), "text_vectors.npy"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_refused_by_name_with_the_remedy(
    name: str, tmp_path: pathlib.Path, dataset_folder: pathlib.Path
) -> None:
    path = tmp_path / "damaged"
    shutil.copytree(dataset_folder, path)
    damage, named = DAMAGES[name]
    damage(path)
    with pytest.raises(UserError) as caught:
        load_dataset(path)
    message = str(caught.value)
    assert named in message and str(path) in message
    assert "prepare the dataset again with data_tools.prepare" in message or name == "half a manifest"
    assert name != "half a manifest" or "make it anew" in message


def test_a_folder_that_does_not_exist_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match="does not exist; make one with data_tools.prepare"):
        load_dataset(tmp_path / "nowhere")


@pytest.mark.parametrize("item", [ITEMS, -1])
def test_sessions_with_an_item_that_has_no_row_are_refused(tmp_path: pathlib.Path, item: int) -> None:
    def change(arguments: dict[str, Any]) -> None:
        strange = pl.when(pl.int_range(pl.len()) == 50).then([item, 1]).otherwise("items").cast(pl.List(pl.Int32))
        arguments["sessions"] = arguments["sessions"].with_columns(strange.alias("items"))

    with pytest.raises(UserError, match="an item that items.parquet lacks"):
        write_changed(tmp_path / "d", change)


def test_training_sessions_with_an_item_outside_the_catalogue_are_refused(tmp_path: pathlib.Path) -> None:
    def change(arguments: dict[str, Any]) -> None:
        arguments["catalogue_size"] = CATALOGUE - 1

    with pytest.raises(UserError, match=f"outside the catalogue of {CATALOGUE - 1}"):
        write_changed(tmp_path / "d", change)


def test_a_write_that_fails_leaves_the_old_folder_and_nothing_else(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_small_dataset(tmp_path / "d")
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    assert sorted(before) == ["items.parquet", "manifest.json", "sessions.parquet", "text_vectors.npy"]

    def full_disk(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full_disk)
    for folder in (path, tmp_path / "new"):
        with pytest.raises(UserError, match="cannot be written .*No space left"):
            write_small_dataset(folder)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["d"]
