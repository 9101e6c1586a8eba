"""A prepared dataset: one self-describing folder that `data_tools.prepare` writes and everything else reads.

    manifest.json      format version, counts, split rule, seed, protocol, hashes of sources, encoder and files
    items.parquet      item_id, name, text, and optional attributes (`dataset_files.ATTRIBUTE_COLUMNS`), null where an
                       item has none: row i is item i
    sessions.parquet   split, session_id, user_id, items (list of item numbers), first_target, and optionally alone
    sessions/          the same sessions as arrays (`session_arrays`), which training and evaluation read memory-mapped;
                       a folder of an earlier time may lack them
    text_vectors.npy   float32 [items, d_text], row i belongs to item i; zeros where an item has no text. Not there
                       if texts were not encoded
    NAME_vectors.npy   float32 [items, width], likewise, of any further feature, another encoder of the texts say

Items are numbered so that the catalogue (the items that training contains, unless prepared otherwise) comes
first: item numbers 0 .. catalogue_size-1 can be recommended, the rest occur in held-out sessions only.
"""

import contextlib
import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import polars as pl

from alterrec_jax.data import dataset_files, session_arrays
from alterrec_jax.data.dataset_files import ALONE, REMEDY, TEXT, vectors_file
from alterrec_jax.data.order import is_ordered
from alterrec_jax.errors import UserError
from alterrec_jax.runtime import files

SPLITS = ("train", "validation", "test")


class _Names:
    """A field that holds names, or a function that reads them: called when they are first asked for."""

    def __init__(self, default: "Callable[[], pl.Series] | None" = None):
        self._default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, sessions: Any, owner: type | None = None) -> pl.Series:
        if sessions is None:  # a dataclass asks for the default
            if self._default is None:
                raise AttributeError(self._name)
            return self._default  # type: ignore[return-value]
        names = sessions.__dict__[self._name]
        if callable(names):
            names = sessions.__dict__[self._name] = names()
        return names

    def __set__(self, sessions: Any, names: "pl.Series | Callable[[], pl.Series]") -> None:
        sessions.__dict__[self._name] = names


@dataclasses.dataclass(frozen=True)
class Sessions:
    """The sessions of one split, as flat arrays.

    Attributes:
      items: int32 [interactions], the item numbers of all sessions one after another.
      offsets: int64 [sessions + 1]; session i is `items[offsets[i]:offsets[i + 1]]`.
      first_target: int32 [sessions], the first position of a session that may be a target. 1 where the whole
        session belongs to the split; the last position under leave-one-out, whose earlier items were trained on.
      session_ids: str, the sessions' names. Names may be given by a function that reads them when they are asked for.
      user_ids: str, the users' names; null where unknown.
      alone: bool [interactions], whether no other interaction of the whole session (also of what a split takes from
        it) has the same time; None where times are unknown, and in training, which must not know of what follows.
      user_names: str, the distinct user ids of the training sessions, sorted.
    """

    items: np.ndarray
    offsets: np.ndarray
    first_target: np.ndarray
    session_ids: _Names = _Names()
    user_ids: _Names = _Names()
    alone: np.ndarray | None = None
    user_names: _Names = _Names(lambda: pl.Series(dtype=pl.String))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        return self.items[self.offsets[index] : self.offsets[index + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """int64 [sessions], the number of items of each session."""
        return np.diff(self.offsets)

    @functools.cached_property
    def users(self) -> np.ndarray:
        """int32 [sessions], the number of each session's user in `user_names`; -1 where that does not hold it."""
        if self.user_names.is_empty():
            return np.full(len(self), -1, np.int32)
        numbers = pl.Series(np.arange(len(self.user_names), dtype=np.int32))
        found = self.user_ids.replace_strict(self.user_names, numbers, default=-1, return_dtype=pl.Int32)
        return found.to_numpy()


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A dataset folder, read and checked.

    Attributes:
      path: the folder.
      manifest: the content of manifest.json.
      items: columns item_id, name, text, and the attributes that were prepared; row i is item i.
      vectors: by the name of the feature, "text" among them if texts were encoded: float32 [items, width],
        memory-mapped.
      splits: the sessions of train, validation and test.
    """

    path: pathlib.Path
    manifest: Mapping[str, Any]
    items: pl.DataFrame
    vectors: Mapping[str, np.ndarray]
    splits: Mapping[str, Sessions]

    def __repr__(self) -> str:
        sessions = ", ".join(f"{len(part):,} {split}" for split, part in self.splits.items())
        items = f"{self.catalogue_size:,} of {len(self.items):,} items in the catalogue"
        return f"Dataset({self.path}: {sessions} sessions, {items})"

    @property
    def text_vectors(self) -> np.ndarray:
        """float32 [items, d_text], zeros where an item has no text; a `KeyError` where texts were not encoded."""
        return self.vectors[TEXT]

    def has_vector(self, name: str) -> np.ndarray:
        """bool [items], whether the item has a vector of that feature: a row of zeros says that it has none."""
        return np.asarray(np.any(self.vectors[name], axis=1))

    @property
    def text_encoders(self) -> dict[str, dict[str, Any]]:
        """As `dataset_files.text_encoders`."""
        return dataset_files.text_encoders(self.manifest)

    @property
    def known_users(self) -> int:
        """How many distinct users the training sessions have: `Sessions.users` are below it."""
        return len(self.splits["train"].user_names)

    @property
    def exclude_session_items(self) -> bool:
        """Whether a session's own items are no candidates, as preparation found; False where it recorded nothing."""
        return bool(self.manifest.get("protocol", {}).get("exclude_session_items", False))

    @property
    def ordered(self) -> bool:
        """Whether the order within a session means something, by what preparation recorded of it."""
        order = self.manifest.get("order", {})
        return bool(order["ordered"]) if "ordered" in order else is_ordered(order)

    @property
    def catalogue_size(self) -> int:
        """The number of items that can be recommended: item numbers below it."""
        return self.manifest["counts"]["catalogue"]

    @property
    def fingerprint(self) -> str:
        """Names the content: equal for two folders whose files are the same byte by byte, and whose catalogue is."""
        return self.manifest["fingerprint"]

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
        vectors = {name: rows[order] for name, rows in self.vectors.items()}
        return Dataset(self.path, manifest, self.items[order], vectors, splits)


def write_dataset(
    path: str | os.PathLike[str],
    *,
    items: pl.DataFrame,
    sessions: pl.DataFrame,
    text_vectors: np.ndarray | None,
    catalogue_size: int,
    provenance: Mapping[str, Any],
    vectors: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Writes a dataset folder, complete or not at all.

    Args:
      path: the folder; a dataset that stood there is replaced.
      items: columns item_id, name and text (str), and any of `dataset_files.ATTRIBUTE_COLUMNS`; the catalogue first.
      sessions: columns split, session_id, user_id (str or null), items (list of int32), first_target (int32), and
        optionally alone (list of bool, as long as items, or null).
      text_vectors: float32 [items, d_text]; None if texts were not encoded.
      catalogue_size: how many of the items, from the first, can be recommended.
      provenance: what else the manifest tells: source, split, seed, hashes, text encoders, attributes, protocol.
      vectors: of further features, by their names ("text" is not one): float32 [items, width].

    Raises:
      UserError: the folder cannot be written, say because the disk is full, or holds more than a dataset.
      ValueError: `vectors` names "text", or has another number of rows than there are items.
    """
    tables = {**({} if text_vectors is None else {TEXT: text_vectors}), **(vectors or {})}
    if TEXT in (vectors or {}):
        raise ValueError("'text' is the name of text_vectors; call further vectors otherwise")
    if wrong := [name for name, table in tables.items() if len(table) != len(items)]:
        raise ValueError(f"{wrong[0]} vectors have {len(tables[wrong[0]])} rows for {len(items)} items")
    item_columns = [*dataset_files.ITEM_COLUMNS, *(c for c in dataset_files.ATTRIBUTE_COLUMNS if c in items.columns)]
    session_columns = [*dataset_files.SESSION_COLUMNS, *((ALONE,) if ALONE in sessions.columns else ())]
    ours = dataset_files.names_in(pathlib.Path(path))
    with _written_whole(path), files.replacing_directory(path, ours) as folder:
        items.select(item_columns).write_parquet(folder / dataset_files.ITEMS)
        for name, table in tables.items():
            np.save(folder / vectors_file(name), np.ascontiguousarray(table, np.float32), allow_pickle=False)
        parts = (dataset_files.ITEMS, *map(vectors_file, tables))
        hashes = {name: files.sha256_file(folder / name) for name in parts}
        dataset_files.write_sessions(folder, sessions.select(session_columns), hashes)
        names = [dataset_files.SESSIONS, *session_arrays.write(folder, sessions.select(session_columns), SPLITS)]
        hashes |= {name: files.sha256_file(folder / name) for name in names}
        manifest = {
            "format": dataset_files.FORMAT,
            "format_version": dataset_files.FORMAT_VERSION,
            "counts": _counts(sessions, len(items), catalogue_size),
            "fingerprint": dataset_files.fingerprint(hashes, catalogue_size),
            "files": hashes,
            session_arrays.MADE_OF: hashes[dataset_files.SESSIONS],
            **provenance,
        }
        files.write_json(folder / dataset_files.MANIFEST, {**manifest, "digest": files.json_digest(manifest)})


def _counts(sessions: pl.DataFrame, items: int, catalogue_size: int) -> dict[str, Any]:
    counts: dict[str, Any] = {"items": items, "catalogue": catalogue_size}
    for split in SPLITS:
        part = sessions.filter(pl.col("split") == split)
        lengths = part["items"].list.len().cast(pl.Int64)
        counts[split] = {
            "sessions": len(part),
            "interactions": int(lengths.sum()),
            "prefixes": int((lengths - part["first_target"]).sum()),
        }
    return counts


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
    manifest = dataset_files.read_manifest(path)
    items = dataset_files.read_items(path)
    vectors = {
        name: dataset_files.read_vectors(path / vectors_file(name), len(items))
        for name in dataset_files.vector_names(manifest["files"])
    }
    mapped = manifest.get(session_arrays.MADE_OF) == manifest["files"][dataset_files.SESSIONS]
    splits = _mapped(path, manifest) if mapped else _of_table(dataset_files.read_sessions(path))
    # Once all are open, for another dataset may take the place: what is open stays as it is, and must be what is named.
    dataset_files.require_hashes(path, manifest["files"])
    for name, written_with in dataset_files.parts_of_sessions(path).items():
        if manifest["files"].get(name) != written_with:
            raise UserError(f"{path}: the sessions were written with another {name} than lies there; {REMEDY}")
    bounds = {split: session_arrays.bounds(part.items) for split, part in splits.items()}
    for split, (least, most) in bounds.items():
        if least < 0 or most >= len(items):
            raise UserError(f"{path}: sessions of {split} name an item that items.parquet lacks; {REMEDY}")
    catalogue = manifest["counts"]["catalogue"]
    if not isinstance(catalogue, int) or not 0 < catalogue <= len(items):
        raise UserError(f"{path}: a catalogue of {catalogue} does not fit {len(items)} items; {REMEDY}")
    if bounds["train"][1] >= catalogue:
        raise UserError(f"{path}: sessions of train name an item outside the catalogue of {catalogue}; {REMEDY}")
    return Dataset(path, manifest, items, vectors, splits)


def _mapped(path: pathlib.Path, manifest: Mapping[str, Any]) -> dict[str, Sessions]:
    """The sessions as memory-mapped arrays; their names are read when they are asked for."""
    column = functools.partial(dataset_files.session_column, dataset_files.map_sessions(path))
    user_names = functools.cache(lambda: column("train", "user_id").drop_nulls().unique().sort())
    return {
        split: Sessions(
            **session_arrays.read(path, manifest, split),
            session_ids=functools.partial(column, split, "session_id"),
            user_ids=functools.partial(column, split, "user_id"),
            user_names=user_names,
        )
        for split in SPLITS
    }


def _of_table(table: pl.DataFrame) -> dict[str, Sessions]:
    parts = {split: table.filter(pl.col("split") == split) for split in SPLITS}
    user_names = parts["train"]["user_id"].drop_nulls().unique().sort()
    return {
        split: Sessions(
            **session_arrays.flat(part),
            session_ids=part["session_id"],
            user_ids=part["user_id"],
            user_names=user_names,
        )
        for split, part in parts.items()
    }
