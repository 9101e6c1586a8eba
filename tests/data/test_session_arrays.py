"""Sessions as memory-mapped arrays: what the table says, and nothing else; names are read when they are asked for."""

import hashlib
import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from alterrec_jax.data import dataset_files
from alterrec_jax.data.dataset import SPLITS, Dataset, Sessions, load_dataset
from alterrec_jax.errors import UserError
from tests.conftest import write_small_dataset
from tests.data.examples import seal


def timed(arguments: dict[str, Any]) -> None:
    """Times are known of all splits but training, and users of some sessions."""
    alone = pl.when(pl.col("split") != "train").then(pl.col("items").list.eval(pl.element() % 3 == 1))
    users = pl.when(pl.int_range(pl.len()) % 3 > 0).then(pl.format("u{}", pl.int_range(pl.len()) % 7))
    arguments["sessions"] = arguments["sessions"].with_columns(alone.alias("alone"), users.alias("user_id"))


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    return write_small_dataset(tmp_path / "d", timed)


def without_arrays(path: pathlib.Path) -> None:
    """Makes it a folder of before there were arrays."""
    shutil.rmtree(path / "sessions")
    reseal(path, lambda manifest: manifest.pop("session_arrays"))


def reseal(path: pathlib.Path, change: Callable[[dict[str, Any]], Any] = lambda manifest: None) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["digest"]
    change(manifest)
    there = [name for name in manifest["files"] if (path / name).exists()]
    manifest["files"] = {name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in there}
    manifest["fingerprint"] = dataset_files.fingerprint(manifest["files"], manifest["counts"]["catalogue"])
    seal(path, manifest)


def content(dataset: Dataset) -> dict[str, Any]:
    def of(part: Sessions) -> tuple[Any, ...]:
        arrays = (part.items, part.offsets, part.first_target, part.alone, part.users)
        types = [array is not None and array.dtype for array in arrays]
        values = [array is not None and array.tolist() for array in arrays]
        return types, values, part.session_ids.to_list(), part.user_ids.to_list(), part.user_names.to_list()

    return {split: of(part) for split, part in dataset.splits.items()}


def test_the_arrays_are_the_table_and_memory_mapped(folder: pathlib.Path) -> None:
    found, table = load_dataset(folder), pl.read_parquet(folder / "sessions.parquet")
    for split in SPLITS:
        rows, part = table.filter(pl.col("split") == split), found.splits[split]
        assert [part[row].tolist() for row in range(len(part))] == rows["items"].to_list()
        assert part.first_target.tolist() == rows["first_target"].to_list()
        for array in (part.items, part.offsets, part.first_target):
            assert isinstance(array, np.memmap) and not array.flags.writeable
    assert found.splits["train"].alone is None and found.splits["test"].alone is not None
    assert {name.split("_")[0] for name in found.manifest["files"] if name.endswith("alone.npy")} == {
        "sessions/validation",
        "sessions/test",
    }


def test_a_folder_without_arrays_is_read_as_before(folder: pathlib.Path) -> None:
    before = load_dataset(folder)
    expected = content(before)
    without_arrays(folder)
    after = load_dataset(folder)
    assert content(after) == expected and after.fingerprint == before.fingerprint
    assert not isinstance(after.splits["train"].items, np.memmap)


def test_arrays_of_another_table_are_not_read(folder: pathlib.Path) -> None:
    table = pl.read_parquet(folder / "sessions.parquet")
    table.with_columns(pl.col("items").list.reverse()).write_parquet(folder / "sessions.parquet")
    reseal(folder)
    first = table.filter(pl.col("split") == "train")["items"][0].to_list()
    assert load_dataset(folder).splits["train"][0].tolist() == first[::-1]


def test_what_is_open_stays_when_another_dataset_takes_the_place(folder: pathlib.Path) -> None:
    def other(arguments: dict[str, Any]) -> None:
        arguments["sessions"] = arguments["sessions"].with_columns(session_id=pl.lit("other/") + pl.col("session_id"))

    expected, found = content(load_dataset(folder)), load_dataset(folder)
    write_small_dataset(folder, other)
    assert content(found) == expected
    assert all(name.startswith("other/") for name in load_dataset(folder).splits["test"].session_ids)


DAMAGES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str, str]] = {
    "another type": (lambda items: items.astype(np.int64), "train_items.npy", "holds int64"),
    "two axes": (lambda items: items[:, None], "train_items.npy", "not a row of"),
    "an item less": (lambda items: items[:-1], "test_items.npy", "do not fit each other"),
    "offsets that descend": (
        lambda offsets: offsets[[0, 2, 1, *range(3, len(offsets))]],
        "test_offsets.npy",
        "not fit",
    ),
    "a target behind the end": (lambda first: first + 10**6, "test_first_target.npy", "do not fit each other"),
    "a truth less": (lambda alone: alone[:-1], "test_alone.npy", "do not fit each other"),
    "an item without a row": (lambda items: items + 10**6, "validation_items.npy", "that items.parquet lacks"),
    "an item below all": (lambda items: -items - 1, "validation_items.npy", "that items.parquet lacks"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_sealed_arrays_that_cannot_be_are_refused(folder: pathlib.Path, name: str) -> None:
    change, file, message = DAMAGES[name]
    path = folder / "sessions" / file
    np.save(path, change(np.load(path)))
    reseal(folder)
    with pytest.raises(UserError, match=message):
        load_dataset(folder)


def test_damaged_arrays_are_refused_by_name(folder: pathlib.Path) -> None:
    path = folder / "sessions" / "train_items.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(UserError, match="train_items.npy differs from the hash"):
        load_dataset(folder)
    path.write_bytes(b"pickled data, say")
    reseal(folder)
    with pytest.raises(UserError, match="train_items.npy cannot be read"):
        load_dataset(folder)
    path.unlink()
    with pytest.raises(UserError, match="train_items.npy is missing; prepare"):
        load_dataset(folder)
