"""The batches of an epoch: the same for the same key, starting from any of them, on whatever devices."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

from alterrec_jax.contract import PACKED, PREFIX, WHOLE, SessionBatch
from alterrec_jax.data.dataset import Sessions
from alterrec_jax.data.packing import (
    Chunks,
    Plan,
    cut_chunks,
    cut_prefixes,
    fill_rows,
    keep_ends,
    plan_batches,
    plan_rows,
    row_blocks,
    shuffle_plan,
)
from alterrec_jax.errors import UserError
from alterrec_jax.sharding import mesh

_BYTES = 21  # of a position: five numbers of 32 bits and a bool


def rows_of_batch(batch_prefixes: int, max_length: int) -> int:
    """How many rows of `max_length` positions hold about so many prefixes in the layout `packed`; at least one."""
    return max(round(batch_prefixes / max_length), 1)


class DeviceChunk(NamedTuple):
    """Consecutive batches of an epoch, put on a device together.

    Attributes:
      batches: SessionBatch with a leading axis [batch]; as many in every chunk, the last ones empty if need be.
      first: int32 [], the number of the first of them within the epoch.
    """

    batches: SessionBatch
    first: jax.Array


class TrainBatches:
    """All prefixes of the training sessions, in batches of [rows, length].

    In the layout `packed` a training prefix longer than max_length sees between half of that and max_length of its
    last items; in the layout `prefix`, exactly max_length. Rows of `whole` have one position more than max_length, for
    what follows the longest prefix; a piece of a longer session may fill it with one item more to see.

    Attributes:
      rows: rows of a batch: as many as hold `batch_prefixes` prefixes.
      length: positions of a row.
      steps_per_epoch: batches of an epoch; the last one is filled up with empty rows.
      prefixes: prefixes of an epoch.
      fill: the share of an epoch's positions that hold an item.

    Raises:
      UserError: the sessions have 2^31 interactions or more.
    """

    def __init__(
        self, sessions: Sessions, batch_prefixes: int, max_length: int, layout: str = PACKED, users: bool = False
    ):
        if len(sessions.items) > np.iinfo(np.int32).max:  # numbers on devices have 32 bits
            raise UserError(f"{len(sessions.items):,} training interactions are too many; train on the latest 2^31 - 1")
        self._sessions, self._layout = sessions, layout
        self.length = length = max_length + (layout == WHOLE)
        self._users = sessions.users if users else None
        first, stop = sessions.first_target - 1, sessions.lengths - 1
        self.prefixes = int(np.sum(np.maximum(stop - first, 0)))
        if layout == PREFIX:
            self._chunks = cut_prefixes(first, stop, length)
            self._plan, self.rows = plan_batches(self._lengths, length, batch_prefixes)
        else:
            if layout == WHOLE:
                stop = np.where(first < stop, stop + 1, 0)
            self._chunks = cut_chunks(first, stop, length, stride=max(length // 2, 1))
            self._plan, self.rows = plan_rows(self._lengths, length), rows_of_batch(batch_prefixes, length)
        self.steps_per_epoch = -(-self._plan.rows // self.rows)
        self.fill = float(self._lengths.sum() / max(self.steps_per_epoch * self.rows * length, 1))

    @property
    def _lengths(self) -> np.ndarray:
        return self._chunks.stop - self._chunks.start

    def epoch(
        self, key: jax.Array, start: int = 0, part: range | None = None, shards: int = 1
    ) -> Iterator[SessionBatch]:
        """Yields the batches of one epoch from number `start` on; their content depends on the key alone.

        Args:
          key: of the epoch.
          start: the first batch that is wanted.
          part: which of a batch's rows are wanted, all by default; rows behind the batch's own are empty.
          shards: equal parts of these rows, one a device along the mesh's axis `data`.
        """
        part = range(self.rows) if part is None else part
        seed = np.asarray(jax.random.key_data(key)).tolist()
        unit = self.rows if self._layout == PREFIX else 1
        plan = shuffle_plan(self._plan, self._lengths, np.random.default_rng(seed), unit)
        prefixes = self._prefixes_of_shard(len(part) // shards) if self._layout == PREFIX else 0
        for chunks, of_batch in row_blocks(self._chunks, plan, self.rows, start):
            here = (of_batch.row >= part.start) & (of_batch.row < part.stop)
            chunks = Chunks(*(column[here] for column in chunks))
            of_part = Plan(of_batch.row[here] - part.start, of_batch.offset[here], len(part))
            sessions = self._sessions
            batch = fill_rows(sessions.items, sessions.offsets, chunks, of_part, self.length, self._users)
            if self._layout == PREFIX:
                batch = keep_ends(batch, prefixes, shards)
            elif self._layout == WHOLE:
                stop = sessions.offsets[np.searchsorted(sessions.offsets, batch.interaction, side="right")]
                batch = batch._replace(is_target=batch.is_target & (batch.interaction < stop - 1))
            yield batch

    def _prefixes_of_shard(self, rows: int) -> int:
        """The most prefixes that so many consecutive rows of any batch hold; shuffling leaves it as it is."""
        per_row = np.bincount(self._plan.row, minlength=self._plan.rows).reshape(-1, self.rows)
        return int(np.add.reduceat(per_row, np.arange(0, self.rows, rows), axis=1).max())

    def device_chunks(
        self, key: jax.Array, start: int = 0, chunk_bytes: int = 2**26
    ) -> Iterator[tuple[int, DeviceChunk]]:
        """Yields the batches of `epoch` on the devices, many at a time, with the number of batches that each chunk has.

        Rows lie over the mesh's axis `data`, and a process makes those of its own devices only.

        Args:
          key, start: as of `epoch`.
          chunk_bytes: of batches that are put on a device together; one batch at least.
        """
        of_batch = self.rows * self.length * _BYTES
        size = max(min(self.steps_per_epoch, chunk_bytes // of_batch), 1)
        rows, devices = mesh.padded(self.rows, mesh.DATA), mesh.size(mesh.DATA)
        part = mesh.part_here(rows, mesh.DATA)
        shards, first_shard = len(part) * devices // rows, part.start * devices // rows
        batches = self.epoch(key, start, part, shards)
        for first in range(start, self.steps_per_epoch, size):
            some = list(itertools.islice(batches, size))
            missing = size - len(some)

            def on_devices(*columns: np.ndarray, missing: int = missing) -> jax.Array:
                column = np.pad(np.stack(columns), ((0, missing), *((0, 0),) * columns[0].ndim))
                share = column.shape[1] // shards  # of a device: rows, or prefixes
                here = range(first_shard * share, (first_shard + shards) * share)
                return mesh.put_part(column, mesh.DATA, 1, here, share * devices)

            batch = jax.tree.map(on_devices, *some)
            yield len(some), DeviceChunk(batch, mesh.put(np.int32(first)))
