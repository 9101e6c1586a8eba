"""A run's claim on its workdir: one process at a time, and no folder of somebody else's."""

import contextlib
import fcntl
import os
import pathlib
from collections.abc import Iterator

from alterrec_jax.data import catalogue
from alterrec_jax.errors import UserError
from alterrec_jax.runtime import files
from alterrec_jax.runtime.console import log
from alterrec_jax.training.checkpoint import EPOCHS, FOLDER
from alterrec_jax.training.run_log import CONFIG, WRITTEN

_LOCK = "alterrec_jax.lock"


class InUse(UserError):
    """Another process trains in the workdir."""


@contextlib.contextmanager
def claimed(workdir: pathlib.Path) -> Iterator[None]:
    """Makes the workdir if there is none, and keeps it from other runs; the claim ends with the process at the latest.

    Raises:
      InUse: another process trains there.
      UserError: it holds files, not of a run of ours, that a run would replace.
    """
    there = [name for name in (*WRITTEN, catalogue.FILE, EPOCHS) if (workdir / name).exists()]
    if there and not _is_ours(workdir):
        raise UserError(
            f"{workdir} holds {there[0]}, which is not of a run of ours and would be replaced; use another --workdir"
        )
    workdir.mkdir(parents=True, exist_ok=True)
    # The system lets go of the lock when the process ends, however it ends. The file stays: were it removed, two
    # processes could each lock a file of that name.
    with open(workdir / _LOCK, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise InUse(
                f"{workdir} is in use: process {file.read().strip()} trains there; let it end, stop it, or use another "
                "--workdir"
            ) from None
        except OSError as error:  # some network file systems know no locks
            log(f"note: {workdir} cannot be locked ({error.strerror}); let no other run use it")
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def in_use(workdir: pathlib.Path) -> bool:
    """Whether a process trains in the workdir just now. Nothing is claimed by asking."""
    try:
        with open(workdir / _LOCK, encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # nobody was there yet, or the file system knows no locks
        return False
    return False


def _is_ours(workdir: pathlib.Path) -> bool:
    """Whether a run of ours has saved here, or has begun to: before all else it writes its configuration."""
    if any(entry.name.isdigit() for entry in (workdir / FOLDER).glob("*")):
        return True
    try:
        config = files.read_json(workdir / CONFIG, "configuration")
    except UserError:
        return False
    return isinstance(config, dict) and {"model", "protocol", "seed"} <= config.keys()
