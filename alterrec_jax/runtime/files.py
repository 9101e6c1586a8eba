"""Writing so that nothing half-written can be taken for whole, and hashing what was written."""

import contextlib
import fcntl
import glob
import hashlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from alterrec_jax.errors import UserError
from alterrec_jax.runtime import locks

_PARTIAL = ".alterrec-partial"
_NEW, _EARLIER = "new", "earlier"  # within a writer's own folder: what it writes, and the folder whose place that takes


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Yields a path to write a file to; renames it over `path` if the block succeeds.

    A block that fails, or a process that dies in it, leaves whatever `path` held before. Of several writers at once,
    the last to finish has its file there, whole. Where `path` is a symbolic link, what it points to is replaced.

    Raises:
      UserError: something that is no regular file stands at `path`: a folder, or a device, which must not go.
    """
    path = _target(path)
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is not a regular file, and is not replaced by one; name another file")
    with _own_folder_beside(path) as own:
        partial = own / _NEW
        yield partial
        _flush(partial)
        os.replace(partial, path)


@contextlib.contextmanager
def replacing_directory(path: str | os.PathLike[str], ours: Collection[str]) -> Iterator[pathlib.Path]:
    """Like `replacing`, for a folder: yields an empty folder and puts it in the place of `path`.

    The folder that stood there is removed once the new one is in its place; if that fails, it is put back. A process
    that dies between the two renames leaves no folder at `path`, never a half-written one; the next writer puts the
    earlier one back first. Where `path` is a symbolic link, the folder that it points to is replaced.

    Args:
      path: the folder.
      ours: the names of what may lie in the folder that stood there and goes with it.

    Raises:
      UserError: something else lies there, which would be lost.
    """
    path = _target(path)
    with _own_folder_beside(path) as own:
        partial, earlier = own / _NEW, own / _EARLIER
        partial.mkdir()
        yield partial
        for file in partial.rglob("*"):
            if file.is_file():
                _flush(file)
        with _exclusive(path.parent):
            if not path.exists():
                os.replace(partial, path)
                return
            require_ours(path, ours)
            os.replace(path, earlier)
            try:
                require_ours(earlier, ours)  # what came since
                os.replace(partial, path)
            except BaseException:
                os.replace(earlier, path)
                raise


def require_ours(folder: pathlib.Path, ours: Collection[str]) -> None:
    """Stops where a folder that is to be replaced holds something of somebody else.

    Raises:
      UserError: names the first such entry and how many there are.
    """
    others = sorted(entry.name for entry in folder.iterdir() if entry.name not in ours)
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise UserError(
            f"{folder} holds '{others[0]}'{more}, which would be lost with what is replaced there; move it elsewhere, "
            "or name another folder"
        )


def require_no_links(folder: pathlib.Path, names: Iterable[str]) -> None:
    """Stops where one of `names` in `folder` is a symbolic link: what is written there would end elsewhere.

    Raises:
      UserError: names the link.
    """
    for name in names:
        if (folder / name).is_symlink():
            raise UserError(
                f"{folder / name} is a link to {os.readlink(folder / name)}, and nothing is written through links "
                "inside of a folder; remove it, or link the whole folder instead"
            )


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


@contextlib.contextmanager
def _own_folder_beside(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A new folder that no other writer has, claimed while the block runs and then removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear_abandoned(path)
    own = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=_PARTIAL, dir=path.parent))
    try:
        with locks.exclusive(own / locks.CLAIM):
            yield own
    finally:
        if path.exists() or not (own / _EARLIER).exists():  # else it could not be put back, and must not go
            shutil.rmtree(own, ignore_errors=True)


def _clear_abandoned(path: pathlib.Path) -> None:
    """Removes what writers of `path` left that died, and puts a folder back that one of them had taken away."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*{_PARTIAL}"):
        if locks.is_abandoned(left):
            if (left / _EARLIER).exists() and not path.exists():
                with contextlib.suppress(OSError):  # another writer was faster
                    os.replace(left / _EARLIER, path)
            shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def _exclusive(folder: pathlib.Path) -> Iterator[None]:
    """Waits until no other process renames within `folder`; where folders cannot be locked, nobody is kept away."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def _flush(path: pathlib.Path) -> None:
    """Forces a written file to the disk, so that the rename cannot overtake its content."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
