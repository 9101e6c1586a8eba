"""The files of a dataset folder: their names, how each is read and checked, and the fingerprint over all of them."""

import json
import mmap
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from alterrec_jax.errors import UserError
from alterrec_jax.runtime import files
from alterrec_jax.runtime.polars_errors import panics_as_errors

FORMAT = "alterrec-dataset"
FORMAT_VERSION = 4
# Version 1 has neither item attributes nor further vectors nor a protocol; 1 and 2 always have text vectors; up to 3
# there is one encoder of texts at most.
READABLE_VERSIONS = (1, 2, 3, 4)

MANIFEST, ITEMS, SESSIONS = "manifest.json", "items.parquet", "sessions.parquet"
SESSION_ARRAYS = "sessions"  # the folder of what `session_arrays` makes of the sessions
PICTURE = "describe.png"  # which data_tools.describe draws
TEXT = "text"  # the feature name of the text vectors
DROPPED = "_dropped"  # behind the name of a feature: the vectors of the same texts without some of their words
TEXT_DROPPED = TEXT + DROPPED
# Of images: by a classifier of photographs; and by the text encoder, of its words alone, and of the text with them.
IMAGE, IMAGE_WORDS, TEXT_AND_IMAGE = "image", "image_words", "text_and_image"
IMAGE_FEATURES = (IMAGE, IMAGE_WORDS, TEXT_AND_IMAGE)
ITEM_COLUMNS = ("item_id", "name", "text")
ATTRIBUTE_COLUMNS: dict[str, pl.DataType] = {
    "price": pl.Float64(),
    "category": pl.String(),
    "brand": pl.String(),
    "attributes": pl.List(pl.String),
    "image": pl.String(),
    "image_sha256": pl.String(),
    "image_words": pl.String(),
}
SESSION_COLUMNS = ("split", "session_id", "user_id", "items", "first_target")
ALONE = "alone"

_PARTS = "alterrec_jax.files"  # in the metadata of the sessions table
_VECTORS_END = "_vectors.npy"
_NPY = b"\x93NUMPY"
REMEDY = "prepare the dataset again with data_tools.prepare"
_ROWS_CHECKED_AT_ONCE = 65_536


def vectors_file(name: str) -> str:
    """The file of the vectors of one feature: text_vectors.npy of "text"."""
    return name + _VECTORS_END


def vector_names(hashes: Mapping[str, str]) -> list[str]:
    """The features whose vectors are among the files of a manifest, sorted."""
    return sorted(name.removesuffix(_VECTORS_END) for name in hashes if name.endswith(_VECTORS_END))


def text_encoders(manifest: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By feature, what made its vectors of the texts: model, sha256, dim, fusion, columns.

    Where vectors were given in place of a text model's, `given` is true and the hash is that of their file.
    """
    if "text_encoders" in manifest:
        return dict(manifest["text_encoders"])
    return {TEXT: manifest["text_encoder"]} if "text_encoder" in manifest else {}  # up to version 3


def fingerprint(hashes: Mapping[str, str], catalogue_size: int) -> str:
    """Names the content of a folder: 16 hexadecimal digits over the hashes of its files and its catalogue."""
    texts = [hashes[name] for name in (vectors_file(TEXT),) if name in hashes]
    named = [catalogue_size, hashes[ITEMS], *texts, hashes[SESSIONS]]
    further = [(name, hashes[vectors_file(name)]) for name in vector_names(hashes) if name != TEXT]
    return files.json_digest([*named, *map(list, further)])[:16]


def is_dataset(path: pathlib.Path) -> bool:
    """Whether a folder holds a manifest of ours, of whatever version."""
    return bool(names_in(path))


def names_in(path: pathlib.Path) -> set[str]:
    """What the dataset in a folder consists of, by its manifest; nothing where there is no dataset.

    Only these give way to another dataset; whatever else lies there is somebody's.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return set()
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        return set()
    named = manifest.get("files")
    vectors = vector_names(named) if isinstance(named, dict) else []
    return {MANIFEST, ITEMS, SESSIONS, SESSION_ARRAYS, PICTURE, *map(vectors_file, (TEXT, *vectors))}


def read_manifest(path: pathlib.Path) -> dict[str, Any]:
    """The manifest of a dataset folder, checked.

    Raises:
      UserError: the folder or its manifest is missing, of another format or version, changed, or damaged.
    """
    if not path.is_dir():
        raise UserError(f"dataset folder {path} does not exist; make one with data_tools.prepare --out={path}")
    if not (path / MANIFEST).exists():
        raise UserError(f"{path} is not a dataset folder (it holds no manifest.json); {REMEDY}")
    manifest = files.read_json(path / MANIFEST, "dataset manifest")
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise UserError(f"{path} is not a dataset folder (its manifest names no '{FORMAT}'); {REMEDY}")
    if manifest.get("format_version") not in READABLE_VERSIONS:
        raise UserError(
            f"dataset {path} has format version {manifest.get('format_version')}, this program reads "
            f"{', '.join(map(str, READABLE_VERSIONS))}; {REMEDY}"
        )
    _require_intact(path / MANIFEST, manifest)
    return manifest


def _require_intact(path: pathlib.Path, manifest: Mapping[str, Any]) -> None:
    """Refuses a manifest that was changed since it was written, or does not say how to see that."""
    rest = {name: value for name, value in manifest.items() if name != "digest"}
    try:
        intact = manifest["fingerprint"] == fingerprint(manifest["files"], manifest["counts"]["catalogue"])
        intact &= manifest["digest"] == files.json_digest(rest)
    except (KeyError, TypeError, AttributeError):
        intact = False
    if not intact:
        raise UserError(f"dataset manifest {path} was changed or damaged: its fingerprint does not fit; {REMEDY}")


def require_hashes(path: pathlib.Path, hashes: Mapping[str, str]) -> None:
    """Stops where a file is not the one that the manifest was written with.

    Raises:
      UserError: names the file.
    """
    for name, expected in hashes.items():
        if not (path / name).is_file():
            raise UserError(f"dataset file {path / name} is missing; {REMEDY}")
        if files.sha256_file(path / name) != expected:
            raise UserError(f"{path / name} differs from the hash in the manifest: it was changed or damaged; {REMEDY}")


def read_items(path: pathlib.Path) -> pl.DataFrame:
    """The items table of a dataset folder: `ITEM_COLUMNS`, and those of `ATTRIBUTE_COLUMNS` that it has.

    Raises:
      UserError: the file is missing or damaged, lacks a column, has one of another type, or names an item twice.
    """
    items = _read_parquet(path / ITEMS, dict.fromkeys(ITEM_COLUMNS, pl.String()))
    for column, dtype in ATTRIBUTE_COLUMNS.items():
        if column in items.columns:
            _require_type(path / ITEMS, items[column], dtype)
    if (twice := items["item_id"].is_duplicated()).any():
        raise UserError(f"{path / ITEMS}: item id '{items['item_id'].filter(twice)[0]}' stands twice; {REMEDY}")
    return items


def read_sessions(path: pathlib.Path) -> pl.DataFrame:
    """The sessions table of a dataset folder: `SESSION_COLUMNS`, and `alone` where it is known.

    Raises:
      UserError: the file is missing, damaged or lacks a column, one holds what cannot be, or `alone` does not fit the
        items.
    """
    file = path / SESSIONS
    types = {"split": pl.String(), "session_id": pl.String(), "items": pl.List(pl.Int32), "first_target": pl.Int32()}
    sessions = _read_parquet(file, types)
    if "user_id" not in sessions.columns:
        raise UserError(f"dataset file {file} lacks the column 'user_id'; {REMEDY}")
    lengths = sessions["items"].list.len()
    if sessions["items"].explode(empty_as_null=False).has_nulls():
        raise UserError(f"{file}: column 'items' holds nulls; {REMEDY}")
    if not (sessions["first_target"].is_between(0, lengths)).all():
        raise UserError(f"{file}: column 'first_target' lies outside of the sessions; {REMEDY}")
    if ALONE in sessions.columns:
        timed = sessions[ALONE].list.len() if sessions[ALONE].dtype == pl.List(pl.Boolean) else None
        if timed is None or not (timed.is_null() | (timed == lengths)).all():
            raise UserError(f"{file}: column '{ALONE}' holds no truth value for each item; {REMEDY}")
    return sessions


def map_sessions(path: pathlib.Path) -> mmap.mmap:
    """The file of the sessions table, memory-mapped: it stays as it is when another dataset takes the folder's place.

    Raises:
      UserError: the file is missing or empty.
    """
    file = path / SESSIONS
    if not file.is_file():
        raise UserError(f"dataset file {file} is missing; {REMEDY}")
    try:
        with open(file, "rb") as opened:
            return mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    except (ValueError, OSError) as error:
        raise UserError(f"dataset file {file} cannot be read ({error}); {REMEDY}") from None


def session_column(mapped: mmap.mmap, split: str, column: str) -> pl.Series:
    """One column of the sessions of one split, of what `map_sessions` gives.

    Raises:
      UserError: the file is damaged or lacks the column.
    """
    mapped.seek(0)
    try:
        with panics_as_errors():
            file = pl.scan_parquet(mapped)  # type: ignore[arg-type]  # it is read like a file
            table = file.filter(pl.col("split") == split).select(column)
            return table.collect(engine="streaming")[column]
    except pl.exceptions.PolarsError as error:
        raise UserError(f"column '{column}' of the sessions of a dataset cannot be read ({error}); {REMEDY}") from None


def parts_of_sessions(path: pathlib.Path) -> dict[str, str]:
    """The hashes of the other files, as the sessions table names those that it was written with; {} if it names none.

    A manifest can be written for files that do not belong together; these hashes are inside of one of them.
    """
    with panics_as_errors():
        parts = json.loads(pl.read_parquet_metadata(path / SESSIONS).get(_PARTS, "{}"))
    return parts if isinstance(parts, dict) else {}


def write_sessions(path: pathlib.Path, sessions: pl.DataFrame, parts: Mapping[str, str]) -> None:
    """Writes the sessions table; `parts` are the hashes of the files whose rows its item numbers are."""
    sessions.write_parquet(path / SESSIONS, metadata={_PARTS: json.dumps(parts)})


def _read_parquet(path: pathlib.Path, types: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """A table, whose columns of `types` are there, of that type and without nulls."""
    if not path.exists():
        raise UserError(f"dataset file {path} is missing; {REMEDY}")
    try:
        with panics_as_errors():
            table = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"dataset file {path} cannot be read ({error}); {REMEDY}") from None
    for column, dtype in types.items():
        if column not in table.columns:
            raise UserError(f"dataset file {path} lacks the column '{column}'; {REMEDY}")
        _require_type(path, table[column], dtype)
        if table[column].has_nulls():
            raise UserError(f"{path}: column '{column}' holds nulls; {REMEDY}")
    return table


def _require_type(path: pathlib.Path, column: pl.Series, dtype: pl.DataType) -> None:
    if column.dtype != dtype:
        raise UserError(f"{path}: column '{column.name}' is {column.dtype}, not {dtype}; {REMEDY}")


def read_vectors(path: pathlib.Path, items: int, *, what: str = "", remedy: str = REMEDY) -> np.ndarray:
    """The vectors of a .npy file, memory-mapped and checked.

    Args:
      path: the file.
      items: how many rows it must have.
      what: names the vectors in errors; by default after the file.
      remedy: ends the errors.

    Returns:
      a floating-point array [items, width], as it is in the file.

    Raises:
      UserError: the file is missing or damaged, has another shape, holds no floating-point numbers, or one that is
        not finite.
    """
    what = what or f"{path.name.removesuffix(_VECTORS_END)} vectors"
    vectors = map_array(path, what, remedy)
    if vectors.ndim != 2 or len(vectors) != items or not vectors.shape[1]:
        raise UserError(f"{what} {path} have shape {vectors.shape}, but there are {items} items; {remedy}")
    if not np.issubdtype(vectors.dtype, np.floating):
        raise UserError(f"{what} {path} hold {vectors.dtype}, not floating-point numbers; {remedy}")
    for start in range(0, items, _ROWS_CHECKED_AT_ONCE):
        with np.errstate(over="ignore"):  # a float64 may be finite, and not as the float32 that it becomes
            block = np.asarray(vectors[start : start + _ROWS_CHECKED_AT_ONCE], np.float32)
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            row = start + int(np.argmin(finite))
            raise UserError(f"{what} {path} hold a NaN or an infinity in row {row}; {remedy}")
    return vectors


def map_array(path: pathlib.Path, what: str, remedy: str = REMEDY) -> np.ndarray:
    """The array of a .npy file, memory-mapped; `what` and `remedy` are as of `read_vectors`.

    Raises:
      UserError: the file is missing or damaged.
    """
    if not path.is_file():
        raise UserError(f"{what} file {path} is missing; {remedy}")
    try:
        with open(path, "rb") as file:  # of anything else, NumPy says that pickled data could be trusted
            if not file.read(len(_NPY)) == _NPY:
                raise ValueError("it is no .npy file")
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{what} {path} cannot be read ({error}); {remedy}") from None
    return array
