"""Keeps the vectors of texts and of images from run to run, in SQLite files that an interrupted run leaves whole."""

import contextlib
import hashlib
import os
import pathlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from alterrec_jax.errors import UserError

_ASKED_AT_ONCE = 500  # SQLite takes at least 999 parameters in one statement
_SECONDS_TO_WAIT = 60.0  # for another run that is writing


class VectorCache:
    """Vectors by (model, text), or by the hash of an image in its place. What was `put` is committed and not lost."""

    def __init__(self, folder: str | os.PathLike[str], what: str = "text") -> None:
        """Opens the cache of `what` in `folder`, and makes it where there is none.

        Raises:
          UserError: the folder cannot be written, or the file in it is damaged.
        """
        self._what = f"{what} cache"
        self._path = pathlib.Path(folder).expanduser() / f"{what}_vectors.sqlite"
        with self._explained():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self._path, timeout=_SECONDS_TO_WAIT)
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS vectors "
                "(model TEXT, text BLOB, vector BLOB, PRIMARY KEY (model, text)) WITHOUT ROWID"
            )

    def __enter__(self) -> "VectorCache":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def get(self, model: str, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """The known vectors (float32 [dim]) of `texts`.

        Raises:
          UserError: the cache is damaged.
        """
        found: dict[str, np.ndarray] = {}
        for start in range(0, len(texts), _ASKED_AT_ONCE):
            keys = {_key(text): text for text in texts[start : start + _ASKED_AT_ONCE]}
            marks = ",".join("?" * len(keys))
            query = f"SELECT text, vector FROM vectors WHERE model = ? AND text IN ({marks})"
            with self._explained():
                for key, vector in self._connection.execute(query, [model, *keys]):
                    found[keys[key]] = np.frombuffer(vector, "<f4")
        if len({len(vector) for vector in found.values()}) > 1:
            raise UserError(
                f"{self._what} {self._path} is damaged (vectors of several lengths for one model); delete it"
            )
        return found

    def put(self, model: str, vectors: Mapping[str, np.ndarray]) -> None:
        """Stores vectors and commits them.

        Raises:
          UserError: the disk is full, or the cache is damaged.
        """
        rows = [(model, _key(text), np.ascontiguousarray(vector, "<f4").tobytes()) for text, vector in vectors.items()]
        with self._explained(), self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise UserError(
                f"{self._what} {self._path}: {error}; free the disk, stop the other run, or name another --cache_dir"
            ) from None
        except sqlite3.DatabaseError as error:
            raise UserError(f"{self._what} {self._path} is damaged ({error}); delete it, and run again") from None
        except OSError as error:
            raise UserError(f"{self._what} {self._path}: {error.strerror or error}; name another --cache_dir") from None


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
