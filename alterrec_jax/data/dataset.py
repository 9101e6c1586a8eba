"""A prepared dataset: one self-describing folder that `data_tools.prepare` writes and everything else reads.

    manifest.json      format version, counts, split rule, seed, hashes of sources, encoder and files
    items.parquet      item_id, name, text: row i is item i
    sessions.parquet   split, session_id, user_id, items (list of item numbers), first_target
    text_vectors.npy   float32 [items, d_text], row i belongs to item i; zeros where an item has no text

Items are numbered so that the catalogue (the items that training contains, unless prepared otherwise) comes
first: item numbers 0 .. catalogue_size-1 can be recommended, the rest occur in held-out sessions only.
"""

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import polars as pl

from alterrec_jax.errors import UserError
from alterrec_jax.runtime import files
from alterrec_jax.runtime.polars_errors import panics_as_errors

FORMAT = "alterrec-dataset"
FORMAT_VERSION = 1
SPLITS = ("train", "validation", "test")

_ITEMS, _SESSIONS, _VECTORS = "items.parquet", "sessions.parquet", "text_vectors.npy"
_REMEDY = "prepare the dataset again with data_tools.prepare"


@dataclasses.dataclass(frozen=True)
class Sessions:
    """The sessions of one split, as flat arrays.

    Attributes:
      items: int32 [interactions], the item numbers of all sessions one after another.
      offsets: int64 [sessions + 1]; session i is `items[offsets[i]:offsets[i + 1]]`.
      first_target: int32 [sessions], the first position of a session that may be a target. 1 where the whole
        session belongs to the split; the last position under leave-one-out, whose earlier items were trained on.
      session_ids: the sessions' names.
      user_ids: the users' names; None where unknown.
    """

    items: np.ndarray
    offsets: np.ndarray
    first_target: np.ndarray
    session_ids: pl.Series
    user_ids: pl.Series

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        return self.items[self.offsets[index] : self.offsets[index + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """int64 [sessions], the number of items of each session."""
        return np.diff(self.offsets)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A dataset folder, read and checked.

    Attributes:
      path: the folder.
      manifest: the content of manifest.json.
      items: columns item_id, name, text; row i is item i.
      text_vectors: float32 [items, d_text], memory-mapped.
      splits: the sessions of train, validation and test.
    """

    path: pathlib.Path
    manifest: Mapping[str, Any]
    items: pl.DataFrame
    text_vectors: np.ndarray
    splits: Mapping[str, Sessions]

    @property
    def catalogue_size(self) -> int:
        """The number of items that can be recommended: item numbers below it."""
        return self.manifest["counts"]["catalogue"]

    @property
    def fingerprint(self) -> str:
        """Names the content: equal for two folders whose files are the same byte by byte, and whose catalogue is."""
        return self.manifest["fingerprint"]

    @property
    def vectors(self) -> Mapping[str, np.ndarray]:
        """TEMPORARY"""
        return {"text": self.text_vectors}

    known_users = 0
    exclude_session_items = False

    @functools.cached_property
    def train_counts(self) -> np.ndarray:
        """int64 [items], how often each item occurs in training (its popularity)."""
        return np.bincount(self.splits["train"].items, minlength=len(self.items))

    def renumbered(self, order: np.ndarray, catalogue_size: int) -> "Dataset":
        """The same dataset with other item numbers, and another catalogue; its training sessions may then leave that.

        Args:
          order: int64 [items], a permutation: the present number of each item, in the new order.
          catalogue_size: how many of them, from the first, can be recommended.
        """
        number = np.empty(len(order), np.int32)
        number[order] = np.arange(len(order), dtype=np.int32)
        manifest = {**self.manifest, "counts": {**self.manifest["counts"], "catalogue": catalogue_size}}
        splits = {
            split: dataclasses.replace(sessions, items=number[sessions.items])
            for split, sessions in self.splits.items()
        }
        return Dataset(self.path, manifest, self.items[order], self.text_vectors[order], splits)


def write_dataset(
    path: str | os.PathLike[str],
    *,
    items: pl.DataFrame,
    sessions: pl.DataFrame,
    text_vectors: np.ndarray,
    catalogue_size: int,
    provenance: Mapping[str, Any],
) -> None:
    """Writes a dataset folder, complete or not at all.

    Args:
      path: the folder; what stood there is replaced.
      items: columns item_id, name and text (str), the catalogue first.
      sessions: columns split, session_id, user_id (str or null), items (list of int32), first_target (int32).
      text_vectors: float32 [items, d_text].
      catalogue_size: how many of the items, from the first, can be recommended.
      provenance: what else the manifest tells: source, split, seed, hashes, text encoder.

    Raises:
      UserError: the folder cannot be written, say because the disk is full.
    """
    counts: dict[str, Any] = {"items": len(items), "catalogue": catalogue_size}
    for split in SPLITS:
        part = sessions.filter(pl.col("split") == split)
        lengths = part["items"].list.len().cast(pl.Int64)
        counts[split] = {
            "sessions": len(part),
            "interactions": int(lengths.sum()),
            "prefixes": int((lengths - part["first_target"]).sum()),
        }
    with _written_whole(path), files.replacing_directory(path) as folder:
        items.select("item_id", "name", "text").write_parquet(folder / _ITEMS)
        sessions.select("split", "session_id", "user_id", "items", "first_target").write_parquet(folder / _SESSIONS)
        np.save(folder / _VECTORS, np.ascontiguousarray(text_vectors, np.float32), allow_pickle=False)
        hashes = {name: files.sha256_file(folder / name) for name in (_ITEMS, _SESSIONS, _VECTORS)}
        manifest = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "counts": counts,
            "fingerprint": _fingerprint(hashes, catalogue_size),
            "files": hashes,
            **provenance,
        }
        files.write_json(folder / "manifest.json", {**manifest, "digest": files.json_digest(manifest)})


@contextlib.contextmanager
def _written_whole(path: str | os.PathLike[str]) -> Iterator[None]:
    """Polars and NumPy tell a full disk in words of their own, without its error number."""
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(
            f"dataset {path} cannot be written ({error}); is the disk full, or the folder not yours?"
        ) from None


def load_dataset(path: str | os.PathLike[str]) -> Dataset:
    """Reads a dataset folder and checks it against its manifest.

    Raises:
      UserError: the folder is missing, of another format version, incomplete, damaged, or inconsistent.
    """
    path = pathlib.Path(path)
    if not path.is_dir():
        raise UserError(f"dataset folder {path} does not exist; make one with data_tools.prepare --out={path}")
    if not (path / "manifest.json").exists():
        raise UserError(f"{path} is not a dataset folder (it holds no manifest.json); {_REMEDY}")
    manifest = files.read_json(path / "manifest.json", "dataset manifest")
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise UserError(f"{path} is not a dataset folder (its manifest names no '{FORMAT}'); {_REMEDY}")
    if manifest.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"dataset {path} has format version {manifest.get('format_version')}, this program reads "
            f"{FORMAT_VERSION}; {_REMEDY}"
        )
    _check_fingerprint(path / "manifest.json", manifest)
    items = _read_parquet(path / _ITEMS, ("item_id", "name", "text"))
    sessions = _read_parquet(path / _SESSIONS, ("split", "session_id", "user_id", "items", "first_target"))
    vectors = _read_vectors(path / _VECTORS, len(items))
    for name, expected in manifest["files"].items():
        if files.sha256_file(path / name) != expected:
            raise UserError(
                f"{path / name} differs from the hash in the manifest: it was changed or damaged; {_REMEDY}"
            )
    splits = {split: _flatten(sessions.filter(pl.col("split") == split)) for split in SPLITS}
    for split, part in splits.items():
        if len(part.items) and not 0 <= part.items.min() <= part.items.max() < len(items):
            raise UserError(f"{path}: sessions of {split} name an item that items.parquet lacks; {_REMEDY}")
    train, catalogue = splits["train"], manifest["counts"]["catalogue"]
    if len(train.items) and train.items.max() >= catalogue:
        raise UserError(f"{path}: sessions of train name an item outside the catalogue of {catalogue}; {_REMEDY}")
    return Dataset(path, manifest, items, vectors, splits)


def _check_fingerprint(path: pathlib.Path, manifest: Mapping[str, Any]) -> None:
    """Refuses a manifest that was changed since it was written. Those of earlier versions hold no digest."""
    rest = {name: value for name, value in manifest.items() if name != "digest"}
    try:
        intact = manifest["fingerprint"] == _fingerprint(manifest["files"], manifest["counts"]["catalogue"])
        intact &= manifest.get("digest") in (None, files.json_digest(rest))
    except (KeyError, TypeError):
        intact = False
    if not intact:
        raise UserError(f"dataset manifest {path} was changed or damaged: its fingerprint does not fit; {_REMEDY}")


def is_dataset(path: pathlib.Path) -> bool:
    """Whether a folder holds a manifest of ours, of whatever version, so that a new dataset may take its place."""
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and manifest.get("format") == FORMAT


def _read_parquet(path: pathlib.Path, columns: tuple[str, ...]) -> pl.DataFrame:
    if not path.exists():
        raise UserError(f"dataset file {path} is missing; {_REMEDY}")
    try:
        with panics_as_errors():
            table = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"dataset file {path} cannot be read ({error}); {_REMEDY}") from None
    if missing := [column for column in columns if column not in table.columns]:
        raise UserError(f"dataset file {path} lacks the column '{missing[0]}'; {_REMEDY}")
    return table


def _read_vectors(path: pathlib.Path, items: int) -> np.ndarray:
    if not path.exists():
        raise UserError(f"dataset file {path} is missing; {_REMEDY}")
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"text vectors {path} cannot be read ({error}); {_REMEDY}") from None
    if vectors.ndim != 2 or len(vectors) != items:
        raise UserError(f"text vectors {path} have shape {vectors.shape}, but there are {items} items; {_REMEDY}")
    for start in range(0, items, 65_536):
        finite = np.isfinite(vectors[start : start + 65_536]).all(axis=1)
        if not finite.all():
            row = start + int(np.argmin(finite))
            raise UserError(f"text vectors {path} hold a NaN or an infinity in row {row}; {_REMEDY}")
    return vectors


def _flatten(sessions: pl.DataFrame) -> Sessions:
    lengths = sessions["items"].list.len().to_numpy().astype(np.int64)
    return Sessions(
        items=sessions["items"].explode(empty_as_null=False).to_numpy().astype(np.int32),
        offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
        first_target=sessions["first_target"].to_numpy().astype(np.int32),
        session_ids=sessions["session_id"],
        user_ids=sessions["user_id"],
    )


def _fingerprint(hashes: Mapping[str, str], catalogue_size: int) -> str:
    named = [catalogue_size, *(hashes[name] for name in (_ITEMS, _VECTORS, _SESSIONS))]
    return files.json_digest(named)[:16]
