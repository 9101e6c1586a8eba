"""A run's claim on its workdir: one process at a time, and no folder of somebody else's."""

import contextlib
import pathlib
from collections.abc import Iterator

from alterrec_jax.data import catalogue
from alterrec_jax.data.dataset_files import is_dataset
from alterrec_jax.errors import UserError
from alterrec_jax.runtime import files, locks
from alterrec_jax.runtime.console import log
from alterrec_jax.training.checkpoint import EPOCHS, FOLDER
from alterrec_jax.training.run_log import WRITTEN
from alterrec_jax.training.run_state import CONFIG

_LOCK = "alterrec_jax.lock"


class InUse(UserError):
    """Another process trains in the workdir."""


@contextlib.contextmanager
def claimed(workdir: pathlib.Path) -> Iterator[None]:
    """Makes the workdir if there is none, and keeps it from other runs; the claim ends with the process at the latest.

    Raises:
      InUse: another process trains there.
      UserError: it holds files, not of a run of ours, that a run would replace, or links in their place, or lies in a
        dataset, which is replaced as a whole.
    """
    require_outside_datasets(workdir)
    files.require_no_links(workdir, (*WRITTEN, catalogue.FILE, EPOCHS, FOLDER, _LOCK))
    there = [name for name in (*WRITTEN, catalogue.FILE, EPOCHS) if (workdir / name).exists()]
    if there and not _is_ours(workdir):
        raise UserError(
            f"{workdir} holds {there[0]}, which is not of a run of ours and would be replaced; use another --workdir"
        )
    held = locks.claim(workdir, _LOCK)
    if held is None:
        raise InUse(
            f"{workdir} is in use: process {locks.claimant(workdir, _LOCK)} trains there; let it end, stop it, or use "
            "another --workdir"
        )
    with held:
        if not held.locked:
            log(f"note: {workdir} cannot be locked, for its file system knows no locks; let no other run use it")
        yield


def require_outside_datasets(workdir: pathlib.Path) -> None:
    """Stops where a folder is a dataset or lies in one.

    Raises:
      UserError: names the dataset.
    """
    whole = workdir.resolve()
    for folder in (whole, *whole.parents):
        if is_dataset(folder):
            raise UserError(
                f"--workdir={workdir} lies in the dataset {folder}, whose folder another preparation replaces; use a "
                "folder outside of it"
            )


def _is_ours(workdir: pathlib.Path) -> bool:
    """Whether a run of ours has saved here, or has begun to: before all else it writes its configuration."""
    if any(entry.name.isdigit() for entry in (workdir / FOLDER).glob("*")):
        return True
    try:
        config = files.read_json(workdir / CONFIG, "configuration")
    except UserError:
        return False
    return isinstance(config, dict) and {"model", "protocol", "seed"} <= config.keys()
