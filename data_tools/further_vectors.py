"""Vectors of items that the user brings, one .npy file for each feature."""

import pathlib
import re
from collections.abc import Sequence

import numpy as np

from alterrec_jax.data.dataset_files import TEXT, read_vectors
from alterrec_jax.errors import UserError

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_REMEDY = "write float32 [rows of --items, width] in the order of --items, zeros for an item without a vector"


def named_files(given: Sequence[str]) -> dict[str, str]:
    """The files of --vectors=NAME=FILE.npy, given several times or with commas between, by their names.

    Raises:
      UserError: a value is of another form, or a name is reserved, not an identifier, or given twice.
    """
    found: dict[str, str] = {}
    for one in filter(None, (part.strip() for value in given for part in value.split(","))):
        name, equals, path = (part.strip() for part in one.partition("="))
        if not equals or not path:
            raise UserError(f"--vectors={one} names no file; write --vectors=NAME=FILE.npy")
        if name == TEXT:
            raise UserError("--vectors: 'text' is the name of the vectors of the text columns; choose another name")
        if not _NAME.fullmatch(name):
            raise UserError(f"--vectors: '{name}' is no name; write small letters, digits and underscores, say image")
        if name in found:
            raise UserError(f"--vectors names '{name}' twice; choose another name for one of them")
        found[name] = path
    return found


def read_named(paths: dict[str, str], items: int) -> dict[str, np.ndarray]:
    """The vectors of each name: floating-point [items, width], memory-mapped.

    Raises:
      UserError: a file is missing or damaged, does not fit the items, or holds a value that is not finite.
    """
    return {
        name: read_vectors(pathlib.Path(path), items, what=f"--vectors={name}:", remedy=_REMEDY)
        for name, path in paths.items()
    }
