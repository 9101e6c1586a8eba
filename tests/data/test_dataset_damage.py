"""A damaged or forged dataset folder is refused by name, with the remedy."""

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
from alterrec_jax.data.dataset import load_dataset
from alterrec_jax.errors import UserError
from tests.conftest import CATALOGUE, ITEMS, TEXT_WIDTH, small_tables, write_small_dataset
from tests.data.examples import seal, write_changed


def change_manifest(path: pathlib.Path, **changes: Any) -> None:
    """Sets fields of a manifest."""
    edit_manifest(path, lambda manifest: manifest.update(changes))


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
    "one truth for all": (lambda d: with_column(d / "sessions.parquet", alone=pl.lit(True)), "'alone'"),
    "a truth too few": (
        lambda d: with_column(d / "sessions.parquet", alone=pl.col("items").list.slice(1).list.eval(pl.element() > 3)),
        "'alone'",
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
