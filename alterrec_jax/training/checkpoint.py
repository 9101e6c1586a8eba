"""Checkpoints by orbax: the whole run in each, verified on the way back.

A checkpoint holds three items: `state` (the networks' parameters, the optimizers' states, the sums of the epoch, and
the windows that the stage caches), `best` (the networks' parameters at the best validation so far) and `meta` (JSON:
the epoch and the step, the history of the epochs, the best so far, the configuration, the dataset, and digests of the
arrays). Orbax writes beside, while the run goes on, and renames, so a checkpoint that has its name is
complete; the digests tell whether it is still intact.
"""

import contextlib
import gc
import os
import pathlib
import shutil
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from alterrec_jax.errors import UserError
from alterrec_jax.runtime import files, processes
from alterrec_jax.runtime.console import log, no_library_warnings
from alterrec_jax.sharding.digests import tree_digest
from alterrec_jax.training.run_state import check_own

FORMAT_VERSION = 4
_RECORD_BYTES = 1_000_000  # more than the record and the folders of a checkpoint take
FOLDER = "checkpoints"
EPOCHS = "epochs"
_LATE_SECONDS = 0.2  # reads that were under way when one of them failed have ended by then


class Checkpoint(NamedTuple):
    """One checkpoint. Attributes: state and best, trees of arrays; meta, plain JSON values."""

    state: Any
    best: Any
    meta: dict[str, Any]


class CheckpointStore:
    """The checkpoints in a folder of a workdir: the newest `kept` of a run, or the parameters of each of its epochs.

    After a damaged one is met, `late_seconds` are waited for the reads of it that were under way.
    """

    def __init__(
        self,
        workdir: str | os.PathLike[str],
        read_only: bool = False,
        folder: str = FOLDER,
        kept: int | None = None,
        late_seconds: float = _LATE_SECONDS,
    ):
        self._late_seconds = late_seconds
        self._folder, self._read_only = pathlib.Path(workdir).absolute() / folder, read_only
        # Whoever only reads must neither clear away what a run has half written, nor trip over what it clears away.
        with no_library_warnings():  # that a folder is only read
            options = (
                ocp.CheckpointManagerOptions(read_only=True, lightweight_initialize=True)
                if read_only
                else ocp.CheckpointManagerOptions(
                    max_to_keep=kept, enable_async_checkpointing=True, cleanup_tmp_directories=True
                )
            )
            self._manager = ocp.CheckpointManager(self._folder, options=options)

    def save(self, number: int, checkpoint: Checkpoint) -> None:
        """Begins to write a checkpoint, and comes back when its arrays may be overwritten.

        The one before is waited for. An error of this one is raised by the next `save`, by `wait`, or by `close`.

        Args:
          number: grows through the run; where there is a checkpoint of that number, nothing is written.

        Raises:
          UserError: the disk is full or stands still, or was or did for the one before.
        """
        self.wait()
        if processes.any_process(self.holds(number))[0]:  # one of several processes may see a new folder late
            return
        self._check_room(checkpoint)
        meta = {**checkpoint.meta, "format_version": FORMAT_VERSION}
        meta["digests"] = {"state": tree_digest(checkpoint.state), "best": tree_digest(checkpoint.best)}
        meta["digests"]["meta"] = files.json_digest(meta)
        trees = {"state": _out_of_reach(checkpoint.state), "best": _out_of_reach(checkpoint.best)}
        items = ocp.args.Composite(
            meta=ocp.args.JsonSave(meta),
            **{name: ocp.args.StandardSave(tree) for name, tree in trees.items() if jax.tree.leaves(tree)},
        )
        with self._in_one_line():
            self._manager.save(number, args=items)

    def wait(self) -> None:
        """Comes back when what was saved is complete.

        Raises:
          UserError: it could not be written: the disk is full, or stands still.
        """
        with self._in_one_line():
            self._manager.wait_until_finished()

    @contextlib.contextmanager
    def _in_one_line(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError:  # of orbax, which waits for minutes
            raise UserError(
                f"no checkpoint was complete in {self._folder} in time: the disk, or the whole process, stood still; "
                "the same command continues from the one before"
            ) from None
        except Exception as error:  # orbax and tensorstore each raise their own kinds
            if "No space left" not in str(error):
                raise
            raise UserError(self._full("no space is left")) from None

    def _check_room(self, checkpoint: Checkpoint) -> None:
        """Refuses to begin what will not fit: a writer that runs out of room half-way tells it in pages of traces."""
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves((checkpoint.state, checkpoint.best))) + _RECORD_BYTES
        free = shutil.disk_usage(self._folder).free
        if free < needed:
            raise UserError(self._full(f"it needs {needed / 1e6:.1f} MB, {free / 1e6:.1f} MB are free"))

    def _full(self, how: str) -> str:
        return (
            f"the disk is full: no checkpoint can be written to {self._folder} ({how}); free some space, and the same "
            "command continues from the one before"
        )

    def restore_newest(self, state: Any, best: Any) -> Checkpoint | None:
        """The newest intact checkpoint, with a word on any newer one that is not; None if there is none at all.

        A run that is going on may save and clear away while its checkpoints are read here; they are listed anew then.

        Args:
          state, best: trees of arrays of the shapes to restore, sharded as they are to be; None for a tree that is not
            needed. A table may have other rows of zeros at its end than the stored one. Instead of the tree of the
            state, a function that makes it of a checkpoint's record, or refuses that by a UserError.

        Raises:
          UserError: there are checkpoints, and none of them is intact.
        """
        numbers = processes.broadcast_from_main(self._numbers())
        for number in numbers:
            try:
                with _without_late_callbacks(self._late_seconds):
                    return self.restore(number, state, best)
            except UserError:
                raise
            except Exception as error:  # orbax, tensorstore and zarr each raise their own kinds
                if processes.broadcast_from_main(self._numbers()) != numbers:
                    return self.restore_newest(state, best)
                log(f"checkpoint {self._folder / str(number)} is damaged and is passed over: {_reason(error)}")
        if numbers:
            # Whoever only reads cannot know whose folder it is, nor whether a run goes on in it.
            remedy = "train in another workdir" if self._read_only else "remove that folder to train from the start"
            raise UserError(f"no checkpoint in {self._folder} is intact; {remedy}")
        return None

    def holds(self, number: int) -> bool:
        """Whether there is a checkpoint of that number."""
        return (self._folder / str(number)).is_dir()

    def _numbers(self) -> list[int]:
        """The numbers of the checkpoints that are there now, the newest first; orbax knows those of a while ago."""
        return sorted((int(entry.name) for entry in self._folder.iterdir() if entry.name.isdigit()), reverse=True)

    def forget_after(self, number: int) -> None:
        """Removes checkpoints newer than `number`: damaged ones that were passed over, or epochs to be made again."""
        for newer in [n for n in self._manager.all_steps() if n > number]:
            self._manager.delete(newer)

    def close(self) -> None:
        """Waits as `wait` does, and lets go of the folder."""
        try:
            self.wait()
        finally:
            self._manager.close()

    def restore(self, number: int, state: Any, best: Any) -> Checkpoint:
        """One checkpoint; arguments as of `restore_newest`. A ValueError, or another of orbax's, if it is damaged."""
        meta = self._read(number, ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]
        if not isinstance(meta, dict) or "digests" not in meta:
            raise ValueError("its record cannot be read")
        expected = meta["digests"].pop("meta", None)
        if files.json_digest(meta) != expected:
            raise ValueError("its record differs from its digest")
        if meta["format_version"] != FORMAT_VERSION:
            raise UserError(
                f"checkpoint {self._folder / str(number)} has format version {meta['format_version']}, this program "
                f"reads {FORMAT_VERSION}; train again in another workdir"
            )
        state = state(meta) if callable(state) else state
        wanted = {name: tree for name, tree in (("state", state), ("best", best)) if tree is not None}
        # Not strict: rows that are not stored are zeros, and further ones stay behind. The digests tell what they held.
        args = {
            name: ocp.args.StandardRestore(jax.tree.map(_abstract, tree), strict=False) for name, tree in wanted.items()
        }
        trees = self._read(number, ocp.args.Composite(**args)) if args else {}
        for name in wanted:
            if tree_digest(trees[name]) != meta["digests"][name]:
                raise ValueError(f"its {name} differs from its digest")
        return Checkpoint(
            trees["state"] if state is not None else None, trees["best"] if best is not None else None, meta
        )

    def _read(self, number: int, items: Any) -> Any:
        """What orbax reads of a checkpoint; where one of several processes cannot, an error in all of them.

        They make digests together: one that had given up before would be waited for.
        """
        found, failed = None, None
        try:
            found = self._manager.restore(number, args=items)
        except Exception as error:  # orbax, tensorstore and zarr each raise their own kinds
            failed = error
        (one_failed,) = processes.any_process(failed is not None)
        if one_failed:
            raise failed or ValueError("another process cannot read its part of it")
        return found


@contextlib.contextmanager
def _without_late_callbacks(late_seconds: float = _LATE_SECONDS) -> Iterator[None]:
    """Keeps quiet the reads that a damaged array has ended: they report to a closed event loop, or when collected."""
    hook = sys.unraisablehook

    def tell(event: "sys.UnraisableHookArgs") -> None:
        if not any(said in str(event.exc_value) for said in ("Event loop is closed", "while reading array index")):
            hook(event)

    sys.unraisablehook = tell
    try:
        yield
    except Exception:
        time.sleep(late_seconds)
        gc.collect()
        raise
    finally:
        sys.unraisablehook = hook


def read_newest(workdir: str | os.PathLike[str], best: Any = None) -> Checkpoint:
    """The newest intact checkpoint of a run, which may be going on meanwhile.

    Args:
      workdir: where it is trained.
      best: a tree of arrays of the shapes of its best parameters; None if its record is all that is wanted.

    Raises:
      UserError: the workdir holds no checkpoint, none that is intact, or one of another run.
    """
    found = None
    if (pathlib.Path(workdir) / FOLDER).is_dir():
        store = CheckpointStore(workdir, read_only=True)
        try:
            found = store.restore_newest(None, best)
        finally:
            store.close()
    if found is None:
        raise UserError(f"{workdir} holds no checkpoint; train one with experiments.train --workdir={workdir}")
    check_own(pathlib.Path(workdir), found.meta)
    return found


def read_epoch(workdir: str | os.PathLike[str], epoch: int, params: Any) -> Any:
    """The parameters of a run with `keep_epochs` after an epoch, counted from 0; `params` gives their shapes.

    Raises:
      UserError: they were not kept, are damaged, or are those of another run.
    """
    if not (pathlib.Path(workdir) / EPOCHS).is_dir():
        raise UserError(f"{workdir} holds no parameters by epoch; train with --config.keep_epochs=True")
    with contextlib.closing(CheckpointStore(workdir, read_only=True, folder=EPOCHS)) as store:
        if not store.holds(epoch):
            raise UserError(f"{workdir} holds no parameters of epoch {epoch + 1}")
        try:
            with _without_late_callbacks():
                found = store.restore(epoch, None, params)
        except UserError:
            raise
        except Exception as error:  # orbax, tensorstore and zarr each raise their own kinds
            raise UserError(f"the parameters of epoch {epoch + 1} in {workdir} are damaged: {_reason(error)}") from None
    check_own(pathlib.Path(workdir), found.meta)
    return found.best


def _reason(error: Exception) -> str:
    """The first line of what an error says, and not too much of it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _out_of_reach(tree: Any) -> Any:
    """The arrays, or copies where the host writes from the very buffers that the next step takes over."""
    return jax.tree.map(jnp.copy, tree) if jax.default_backend() == "cpu" else tree


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    """What to restore, and where: as `leaf` lies; if it lies nowhere, on one device, however many it was saved from."""
    sharding = getattr(leaf, "sharding", None) or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
