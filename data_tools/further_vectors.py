"""Vectors of items that the user brings, one .npy file for each feature."""

import os
import pathlib
import re
from collections.abc import Mapping, Sequence

import numpy as np

from alterrec_jax.data.dataset_files import TEXT, read_vectors
from alterrec_jax.errors import UserError

_NAME = re.compile(r"[a-z][a-z0-9_]*")


def named_values(given: Sequence[str], flag: str, value: str, reserved: Sequence[str] = (TEXT,)) -> dict[str, str]:
    """The values of --FLAG=NAME=VALUE, given several times or with commas between, by their names.

    Args:
      given: as the flag has them.
      flag: its name.
      value: what a value is, in errors.
      reserved: names that mean something else.

    Raises:
      UserError: a value is of another form, or a name is reserved, not an identifier, or given twice.
    """
    found: dict[str, str] = {}
    for one in filter(None, (part.strip() for text in given for part in text.split(","))):
        name, equals, named = (part.strip() for part in one.partition("="))
        if not equals or not named:
            raise UserError(
                f"--{flag}={one} names no {value.removesuffix('.npy').lower()}; write --{flag}=NAME={value}"
            )
        if name in reserved:
            raise UserError(f"--{flag}: '{name}' is the name of the vectors of the text columns; choose another name")
        if not _NAME.fullmatch(name):
            raise UserError(f"--{flag}: '{name}' is no name; write small letters, digits and underscores, say image")
        if name in found:
            raise UserError(f"--{flag} names '{name}' twice; choose another name for one of them")
        found[name] = named
    return found


def read_given(path: str | os.PathLike[str], items: int, flag: str, order: str = "--items") -> np.ndarray:
    """The vectors of a file: floating-point [items, width], memory-mapped.

    Args:
      path: the .npy file.
      items: how many rows it must have.
      flag: that named it, for errors.
      order: the flag whose file has these items.

    Raises:
      UserError: the file is missing or damaged, does not fit the items, or holds a value that is not finite.
    """
    remedy = f"write float32 [rows of {order}, width] in the order of {order}, zeros for an item without a vector"
    return read_vectors(pathlib.Path(path), items, what=f"--{flag}:", remedy=remedy)


def read_named(paths: Mapping[str, str], items: int) -> dict[str, np.ndarray]:
    """The vectors of each name, as `read_given`."""
    return {name: read_given(path, items, f"vectors={name}") for name, path in paths.items()}
