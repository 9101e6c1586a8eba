"""Writing so that nothing half-written can be taken for whole, and hashing what was written."""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

from alterrec_jax.errors import UserError


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Yields a path beside `path` to write a file to; renames it over `path` if the block succeeds.

    A block that fails, or a process that dies in it, leaves whatever `path` held before. Where `path` is a symbolic
    link, what it points to is replaced.

    Raises:
      UserError: something that is no regular file stands at `path`: a folder, or a device, which must not go.
    """
    path = _target(path)
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is not a regular file, and is not replaced by one; name another file")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    try:
        yield partial
        _flush(partial)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def replacing_directory(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Like `replacing`, for a folder: yields an empty folder beside `path` and puts it in its place.

    The folder that stood there before is removed only after the new one is complete. A process that dies
    between the two renames leaves no folder at `path`, never a half-written one. Where `path` is a symbolic link, the
    folder that it points to is replaced.
    """
    path = _target(path)
    partial = _partial(path)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        for file in partial.rglob("*"):
            if file.is_file():
                _flush(file)
        # A folder of a new name: whatever else stands beside is somebody's.
        with tempfile.TemporaryDirectory(
            prefix=f".{path.name}.", dir=path.parent, ignore_cleanup_errors=True
        ) as retired:
            if path.exists():
                os.replace(path, pathlib.Path(retired) / path.name)
            os.replace(partial, path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a UTF-8 text file whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes indented JSON whole or not at all; NaN and infinities are refused, for they are not JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | os.PathLike[str], what: str) -> Any:
    """Reads JSON; `what` names the file in the error (say "dataset manifest").

    Raises:
      UserError: the file is missing, is not UTF-8, or is not JSON.
    """
    path = pathlib.Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{what} not found: {path}") from None
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, numbers of thousands of digits, or too deep
        raise UserError(f"{what} {path} is damaged ({error}); make it anew") from None


def sha256_file(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_digest(value: Any) -> str:
    """The SHA-256 of a JSON value, in hexadecimal, whatever the order of its names."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _target(path: str | os.PathLike[str]) -> pathlib.Path:
    """Where `path` leads in the end: absolute, for "." has no name to put something beside, and without links."""
    return pathlib.Path(os.path.realpath(path))


def _partial(path: pathlib.Path) -> pathlib.Path:
    """Where what is to stand at `path` is written: one name, so that what a process left that died there is found."""
    return path.with_name(f".{path.name}.alterrec-partial")


def _flush(path: pathlib.Path) -> None:
    """Forces a written file to the disk, so that the rename cannot overtake its content."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
