"""How processes share work on a disk that all of them see: by locks on files.

A lock belongs to an open file, and the system releases it when the process ends, however it ends. So a claim needs no
heartbeat and leaves nothing to clean up: whoever finds a folder unclaimed and its work unfinished goes on with it. The
files stay; if one were removed, two processes could each lock a file of its name.
"""

import contextlib
import fcntl
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TextIO

CLAIM = "claim.lock"
"""The file whose lock claims its folder."""


class Claim:
    """A locked file, until it is closed or its process ends.

    Attributes:
      locked: False where the file system knows no locks (some network file systems); then nobody is kept away.
    """

    def __init__(self, file: TextIO, locked: bool):
        """`file`: open, and locked unless `locked` is False."""
        self._file, self.locked = file, locked

    def close(self) -> None:
        """Releases the lock."""
        self._file.close()

    def __enter__(self) -> "Claim":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextlib.contextmanager
def exclusive(path: str | os.PathLike[str]) -> Iterator[Claim]:
    """Waits until no other process is within the same block; `path` names the block."""
    found = _lock(pathlib.Path(path), wait=True)
    assert found is not None, "it was waited for"
    with found:
        yield found


def claim(folder: str | os.PathLike[str], name: str = CLAIM) -> Claim | None:
    """Claims a folder, which is made if there is none; None if another process has claimed it.

    Args:
      folder: what is claimed.
      name: of the lock file in it, which holds the number of the process that claimed last.
    """
    return _lock(pathlib.Path(folder) / name, wait=False)


def claimant(folder: str | os.PathLike[str], name: str = CLAIM) -> str:
    """The number of the process that claimed a folder last, as text; arguments as of `claim`."""
    return (pathlib.Path(folder) / name).read_text(encoding="utf-8").strip()


def is_abandoned(folder: str | os.PathLike[str]) -> bool:
    """Whether a process claimed a folder and has ended since; False where that cannot be known."""
    try:
        with open(pathlib.Path(folder) / CLAIM, encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return bool(file.read())  # it is empty until the lock is held
    except OSError:
        return False


def claim_unfinished(
    folders: Iterable[pathlib.Path], finished: Callable[[pathlib.Path], bool]
) -> tuple[pathlib.Path, Claim] | None:
    """Claims the first folder whose work is unfinished and which no other process has; None if there is none.

    Args:
      folders: in the order in which they are tried.
      finished: is asked once the folder is claimed, for the process that had it may have just finished.
    """
    for folder in folders:
        with contextlib.ExitStack() as stack:
            found = claim(folder)
            if found is None:
                continue
            stack.enter_context(found)
            if not finished(folder):
                stack.pop_all()
                return folder, found
    return None


def _lock(path: pathlib.Path, wait: bool) -> Claim | None:
    """Locks a file, which is made if there is none; None if another process has the lock and is not waited for.

    Raises:
      OSError: the file cannot be written, or is a symbolic link, behind which may be anything.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        file = stack.enter_context(os.fdopen(opened, "a", encoding="utf-8"))
        locked = True
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        except OSError:
            locked = False
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        stack.pop_all()
        return Claim(file, locked)
