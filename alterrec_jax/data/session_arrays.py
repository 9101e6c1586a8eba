"""The sessions of a dataset folder as arrays that are memory-mapped: what training and evaluation read of them.

    sessions/SPLIT_items.npy          int32 [interactions], the item numbers of all sessions one after another
    sessions/SPLIT_offsets.npy        int64 [sessions + 1], where each session begins
    sessions/SPLIT_first_target.npy   int32 [sessions]
    sessions/SPLIT_alone.npy          bool [interactions], where it is known

They say what sessions.parquet says, and are made of it when it is written; the manifest names the hash of the table
that they are of, and those of another are not read. A process holds the pages that it reads, and the system takes
them back when memory is short, so that several processes and hosts each read their own part.
"""

import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import polars as pl

from alterrec_jax.data.dataset_files import REMEDY, SESSION_ARRAYS, map_array
from alterrec_jax.errors import UserError

MADE_OF = "session_arrays"  # in the manifest: the hash of the sessions table that they are of
_TYPES = {"items": np.int32, "offsets": np.int64, "first_target": np.int32, "alone": np.bool_}
_CHECKED_AT_ONCE = 1 << 22


def write(folder: pathlib.Path, sessions: pl.DataFrame, splits: Iterable[str]) -> list[str]:
    """Writes the arrays of some splits.

    Args:
      folder: of the dataset.
      sessions: as `dataset_files.write_sessions` takes it.
      splits: their names.

    Returns:
      the names of the files within the folder.
    """
    (folder / SESSION_ARRAYS).mkdir()
    names = []
    for split in splits:
        part = sessions.filter(pl.col("split") == split)
        for column, values in flat(part).items():
            names.append(_name(split, column))
            np.save(folder / names[-1], values, allow_pickle=False)
    return names


def flat(part: pl.DataFrame) -> dict[str, np.ndarray]:
    """The arrays of a table of sessions, by what the files are called; alone where all of them have it."""
    lengths = part["items"].list.len().to_numpy()
    found = {
        "items": part["items"].explode(empty_as_null=False).to_numpy(),
        "offsets": np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)]),
        "first_target": part["first_target"].to_numpy(),
    }
    if "alone" in part.columns and not part["alone"].has_nulls():
        found["alone"] = part["alone"].explode(empty_as_null=False).to_numpy()
    return {name: values.astype(_TYPES[name], copy=False) for name, values in found.items()}


def read(path: pathlib.Path, manifest: Mapping[str, Any], split: str) -> dict[str, np.ndarray]:
    """The arrays of one split, memory-mapped and checked, by what the files are called.

    Args:
      path: the dataset folder.
      manifest: names the files.
      split: its name.

    Raises:
      UserError: a file cannot be read, or the arrays do not fit each other.
    """
    found = {}
    for column, dtype in _TYPES.items():
        if _name(split, column) in manifest["files"] or column != "alone":
            file = path / _name(split, column)
            found[column] = map_array(file, "sessions")
            if found[column].dtype != dtype or found[column].ndim != 1:
                raise UserError(f"dataset file {file} holds {found[column].dtype}, not a row of {dtype}; {REMEDY}")
    if not _fit(found):
        raise UserError(f"dataset files {path / SESSION_ARRAYS}/{split}_*.npy do not fit each other; {REMEDY}")
    return found


def bounds(items: np.ndarray) -> tuple[int, int]:
    """The least and the greatest item number, (0, -1) where there is none; no copy of the items is made."""
    blocks = [items[start : start + _CHECKED_AT_ONCE] for start in range(0, len(items), _CHECKED_AT_ONCE)]
    least, most = [int(block.min()) for block in blocks], [int(block.max()) for block in blocks]
    return (min(least), max(most)) if blocks else (0, -1)


def _name(split: str, column: str) -> str:
    return f"{SESSION_ARRAYS}/{split}_{column}.npy"


def _fit(found: Mapping[str, np.ndarray]) -> bool:
    offsets, total = found["offsets"], len(found["items"])
    if not len(offsets) or offsets[0] != 0 or offsets[-1] != total or len(found["first_target"]) != len(offsets) - 1:
        return False
    lengths = np.diff(offsets)
    inside = (found["first_target"] >= 0) & (found["first_target"] <= lengths)
    return bool((lengths >= 0).all() and inside.all() and len(found.get("alone", found["items"])) == total)
