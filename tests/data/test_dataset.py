"""A dataset folder comes back as it was written, or is refused by name, with the remedy."""

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
    assert found.exclude_session_items and found.manifest["format_version"] == 2


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


def change_manifest(path: pathlib.Path, **changes: Any) -> None:
    """Sets fields of a manifest."""
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, **changes}))


def seal(path: pathlib.Path, manifest: dict[str, Any]) -> None:
    """Writes a manifest with a digest that fits."""
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    (path / "manifest.json").write_text(json.dumps({**manifest, "digest": digest}))


def forge(path: pathlib.Path, catalogue_size: int = CATALOGUE) -> None:
    """Writes a manifest that fits whatever files lie in a folder, as if they belonged together."""
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["digest"]
    hashes = {name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in manifest["files"]}
    manifest |= {"files": hashes, "fingerprint": dataset_files.fingerprint(hashes, catalogue_size)}
    manifest["counts"]["catalogue"] = catalogue_size
    seal(path, manifest)


def edit_manifest(path: pathlib.Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Edits a manifest without sealing it."""
    manifest = json.loads((path / "manifest.json").read_text())
    edit(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))


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


def with_column(path: pathlib.Path, **columns: pl.Expr) -> None:
    pl.read_parquet(path).with_columns(**columns).write_parquet(path)


DAMAGES: dict[str, tuple[Callable[[pathlib.Path], Any], str]] = {
    "no manifest": (lambda d: (d / "manifest.json").unlink(), "manifest"),
    "manifest without its digest": (lambda d: edit_manifest(d, lambda m: m.pop("digest")), "manifest"),
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
    "integers for vectors": (lambda d: save_vectors(d, lambda v: v.astype(np.int32)), "not floating-point"),
    "text for prices": (lambda d: with_column(d / "items.parquet", price=pl.lit("cheap")), "'price' is String"),
    "one truth for all": (lambda d: with_column(d / "sessions.parquet", alone=pl.lit(True)), "'alone'"),
    "a truth too few": (
        lambda d: with_column(d / "sessions.parquet", alone=pl.col("items").list.slice(1).list.eval(pl.element() > 3)),
        "'alone'",
    ),
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


ITEMS_LIST = pl.col("items").list
FORGERIES: dict[str, tuple[Callable[[pathlib.Path], Any], str]] = {
    "numbers that wrap": (
        lambda d: with_column(d / "sessions.parquet", items=ITEMS_LIST.eval(pl.element().cast(pl.Int64) + 2**32)),
        "'items' is List\\(Int64\\), not List\\(Int32\\)",
    ),
    "null numbers": (
        lambda d: with_column(d / "sessions.parquet", items=ITEMS_LIST.eval(pl.element().replace({1: None}))),
        "'items' holds nulls",
    ),
    "no session": (
        lambda d: with_column(d / "sessions.parquet", items=pl.lit(None, pl.List(pl.Int32))),
        "'items' holds nulls",
    ),
    "targets behind the end": (
        lambda d: with_column(d / "sessions.parquet", first_target=pl.lit(10**6, pl.Int32)),
        "'first_target' lies outside",
    ),
    "an item twice": (
        lambda d: with_column(d / "items.parquet", item_id=pl.lit("a")),
        "item id 'a' stands twice",
    ),
    "numbers for texts": (lambda d: with_column(d / "items.parquet", text=pl.lit(1)), "'text' is Int32, not String"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_sealed_folder_whose_content_cannot_be_is_refused(
    name: str, tmp_path: pathlib.Path, dataset_folder: pathlib.Path
) -> None:
    path = tmp_path / "forged"
    shutil.copytree(dataset_folder, path)
    change, named = FORGERIES[name]
    change(path)
    forge(path)
    with pytest.raises(UserError, match=named):
        load_dataset(path)


@pytest.mark.parametrize("size", [0, ITEMS + 1])
def test_a_sealed_catalogue_that_does_not_fit_is_refused(
    size: int, tmp_path: pathlib.Path, dataset_folder: pathlib.Path
) -> None:
    path = tmp_path / "forged"
    shutil.copytree(dataset_folder, path)
    forge(path, size)
    with pytest.raises(UserError, match="catalogue of"):
        load_dataset(path)


@pytest.mark.parametrize("part", ["items.parquet", "text_vectors.npy"])
def test_parts_of_two_datasets_do_not_make_one(tmp_path: pathlib.Path, part: str) -> None:
    def change(arguments: dict[str, Any]) -> None:
        arguments["items"] = arguments["items"].with_columns(item_id=pl.col("item_id").reverse())
        arguments["text_vectors"] = arguments["text_vectors"][::-1]

    path, other = write_small_dataset(tmp_path / "d"), write_small_dataset(tmp_path / "other", change)
    shutil.copyfile(other / part, path / part)
    forge(path)
    with pytest.raises(UserError, match=f"written with another {part}"):
        load_dataset(path)


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
    names = ["items.parquet", "manifest.json", "sessions.parquet", "text_vectors.npy"]
    assert sorted(entry.name for entry in (tmp_path / "d").iterdir()) == names


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
