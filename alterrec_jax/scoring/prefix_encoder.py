"""Session embeddings for evaluation and recommendation: every wanted prefix, encoded as training encodes it.

A prefix is encoded from its last max_length items, exactly. Items outside the catalogue have no row in the ID
table: they are left out of the prefix, for both networks alike. A prefix of which nothing is left gets a zero
embedding, so that all items tie.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import jax
import numpy as np

from alterrec_jax.contract import Network, Params, item_table
from alterrec_jax.data.dataset import Sessions
from alterrec_jax.data.packing import cut_chunks, fill_rows, plan_rows, row_blocks
from alterrec_jax.data.targets import Targets
from alterrec_jax.sharding import mesh

_ITEMS_AT_ONCE = 65_536  # of whole sessions; bounds the memory that embeddings take
_ROWS_AT_ONCE = 32


class Prefixes(NamedTuple):
    """Sessions, and the prefixes of them that are wanted.

    Attributes:
      items: int32 [interactions], the sessions' items one after another.
      offsets: int64 [session + 1], where each begins.
      session: int64 [prefix], ascending.
      length: int64 [prefix], how many of the session's first items the prefix holds.
    """

    items: np.ndarray
    offsets: np.ndarray
    session: np.ndarray
    length: np.ndarray


class Encoder:
    """Encodes prefixes with several networks of one catalogue at once.

    Attributes:
      tables: float [item, dim] by network, made once, without dropout; on a mesh, rows of padding behind them.

    `new_items` are those whose features stand behind the catalogue's.
    """

    def __init__(
        self,
        networks: Mapping[str, Network],
        params: Mapping[str, Params],
        features: Mapping[str, jax.Array | None],
        max_length: int,
        new_items: int = 0,
    ):
        self._params, self._max_length = dict(params), max_length
        everywhere = mesh.sharding(mesh.REPLICATED)  # so that every process can read what comes out
        self._encode = {
            name: jax.jit(network.session_embeddings, out_shardings=everywhere) for name, network in networks.items()
        }
        self.tables = {name: item_table(n, params[name], features[name]) for name, n in networks.items()}
        self._known = next(iter(networks.values())).items + new_items

    def __call__(self, sessions: Sessions, targets: Targets) -> Iterator[dict[str, np.ndarray]]:
        """Yields float32 [some targets, dim] by network: of what stands before each target, in their order."""
        return self.encode(
            Prefixes(sessions.items, sessions.offsets, targets.session, targets.position.astype(np.int64))
        )

    def encode(self, prefixes: Prefixes) -> Iterator[dict[str, np.ndarray]]:
        """Yields float32 [some prefixes, dim] by network, in the order of `prefixes`."""
        known = drop_unknown(prefixes, self._known)
        first, sessions = 0, len(known.offsets) - 1
        while first < sessions:
            fitting = np.searchsorted(known.offsets, known.offsets[first] + _ITEMS_AT_ONCE, side="right") - 1
            last = max(first + 1, int(fitting))
            low, high = np.searchsorted(known.session, [first, last])
            if low < high:
                yield self._encode_sessions(known, first, last, slice(low, high))
            first = last

    def _encode_sessions(self, prefixes: Prefixes, first: int, last: int, wanted: slice) -> dict[str, np.ndarray]:
        """float32 [prefix, dim] by network: the `wanted` prefixes, which belong to sessions first .. last-1."""
        session, length = prefixes.session[wanted] - first, prefixes.length[wanted]
        begin = prefixes.offsets[first]  # numbers in rows have 32 bits, and count from here
        items, offsets = prefixes.items[begin:], prefixes.offsets[first : last + 1] - begin
        shortest = np.full(last - first, np.iinfo(np.int64).max)
        longest = np.zeros(last - first, np.int64)
        np.minimum.at(shortest, session, np.maximum(length, 1))
        np.maximum.at(longest, session, length)
        windows = cut_chunks(shortest - 1, longest, self._max_length, stride=1)
        plan = plan_rows(windows.stop - windows.start, self._max_length)
        # One embedding for each item of the sessions, that of the prefix which ends there; the last one stays zero.
        count = int(offsets[-1])
        out = {name: np.zeros((count + 1, table.shape[1]), np.float32) for name, table in self.tables.items()}
        # One session, as in a request, is not made to wait for many empty rows; few shapes occur all the same.
        rows_at_once = min(_ROWS_AT_ONCE, 1 << (plan.rows - 1).bit_length()) if plan.rows else 1
        rows_at_once = mesh.padded(rows_at_once, mesh.DATA)
        for part, place in row_blocks(windows, plan, rows_at_once):
            rows = fill_rows(items, offsets, part, place, self._max_length)
            source, where = rows.source, rows.where
            on_device = mesh.put(rows._replace(source=None), mesh.BATCH)
            for name, encode in self._encode.items():
                embeddings = np.asarray(encode(self._params[name], self.tables[name], on_device))
                out[name][source[where]] = embeddings[where]
        pick = np.where(length > 0, offsets[session] + length - 1, count)
        return {name: embeddings[pick] for name, embeddings in out.items()}


def drop_unknown(prefixes: Prefixes, catalogue: int) -> Prefixes:
    """The same prefixes without the items that are not in the catalogue (item numbers from `catalogue` on)."""
    known = prefixes.items < catalogue
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(known)])
    start = prefixes.offsets[prefixes.session]
    return Prefixes(
        items=prefixes.items[known],
        offsets=before[prefixes.offsets],
        session=prefixes.session,
        length=before[start + prefixes.length] - before[start],
    )
