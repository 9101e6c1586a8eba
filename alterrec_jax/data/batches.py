"""The batches of an epoch: the same for the same key, starting from any of them, on whatever devices."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

from alterrec_jax.contract import PackedRows
from alterrec_jax.data.dataset import Sessions
from alterrec_jax.data.packing import Chunks, Plan, cut_chunks, fill_rows, plan_rows, row_blocks, shuffle_plan
from alterrec_jax.errors import UserError
from alterrec_jax.sharding import mesh

_GROUP_BYTES = 2**26  # of batches that are put on a device together
_BYTES = 21  # of a position: five numbers of 32 bits and a bool


def rows_of_batch(batch_prefixes: int, max_length: int) -> int:
    """How many rows of `max_length` positions hold about so many prefixes; at least one."""
    return max(round(batch_prefixes / max_length), 1)


class DeviceChunk(NamedTuple):
    """Consecutive batches of an epoch, to be put on a device together.

    Attributes:
      rows: PackedRows of [batch, row, position]; as many batches in every group, the last ones empty if need be.
      first: int32 [], the number of the first of them within the epoch.
    """

    rows: PackedRows
    first: jax.Array


class TrainBatches:
    """All prefixes of the training sessions, packed into batches of [rows, max_length].

    A training prefix longer than max_length sees between half of that and max_length of its last items.

    Attributes:
      rows: rows of a batch, as many as hold `batch_prefixes` positions.
      steps_per_epoch: batches of an epoch; the last one is filled up with empty rows.
      prefixes: prefixes of an epoch.
      fill: the share of an epoch's positions that hold an item.

    Raises:
      UserError: the sessions have 2^31 interactions or more.
    """

    def __init__(self, sessions: Sessions, batch_prefixes: int, max_length: int):
        if len(sessions.items) > np.iinfo(np.int32).max:  # numbers on devices have 32 bits
            raise UserError(f"{len(sessions.items):,} training interactions are too many; train on the latest 2^31 - 1")
        self._sessions, self._max_length = sessions, max_length
        self._windows = cut_chunks(
            sessions.first_target - 1, sessions.lengths - 1, max_length, stride=max(max_length // 2, 1)
        )
        self._lengths = self._windows.stop - self._windows.start
        self._plan = plan_rows(self._lengths, max_length)
        self.rows = rows_of_batch(batch_prefixes, max_length)
        self.steps_per_epoch = -(-self._plan.rows // self.rows)
        self.prefixes = int(np.sum(self._windows.stop - self._windows.scored))
        self.fill = float(self._lengths.sum() / max(self.steps_per_epoch * self.rows * max_length, 1))

    def epoch(self, key: jax.Array, start: int = 0, part: range | None = None) -> Iterator[PackedRows]:
        """Yields the batches of one epoch from number `start` on; their content depends on the key alone.

        Of each batch these are the rows of `part`, all by default; rows behind the batch's own are empty.
        """
        part = range(self.rows) if part is None else part
        seed = np.asarray(jax.random.key_data(key)).tolist()
        plan = shuffle_plan(self._plan, self._lengths, np.random.default_rng(seed))
        for windows, of_batch in row_blocks(self._windows, plan, self.rows, start):
            here = (of_batch.row >= part.start) & (of_batch.row < part.stop)
            windows = Chunks(*(column[here] for column in windows))
            of_part = Plan(of_batch.row[here] - part.start, of_batch.offset[here], len(part))
            yield fill_rows(self._sessions.items, self._sessions.offsets, windows, of_part, self._max_length)

    def groups(self, key: jax.Array, start: int = 0) -> Iterator[tuple[int, DeviceChunk]]:
        """Yields the batches of `epoch` in groups on the devices, with the number of batches that each holds.

        Rows lie over the mesh's axis `data`, and a process makes those of its own devices only.
        """
        of_batch = self.rows * self._max_length * _BYTES
        size = max(min(self.steps_per_epoch, _GROUP_BYTES // of_batch), 1)
        rows = mesh.padded(self.rows, mesh.DATA)
        part = mesh.part_here(rows, mesh.DATA)
        batches = self.epoch(key, start, part)
        for first in range(start, self.steps_per_epoch, size):
            some = list(itertools.islice(batches, size))
            missing = ((0, size - len(some)), (0, 0), (0, 0))
            columns = (np.pad(np.stack(column), missing) for column in zip(*some, strict=True))
            group = PackedRows(*(mesh.put_part(column, mesh.DATA, 1, part, rows) for column in columns))
            yield len(some), DeviceChunk(group, mesh.put(np.int32(first)))
