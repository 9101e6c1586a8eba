"""Session embeddings for evaluation and recommendation: every wanted prefix, encoded as training encodes it.

A prefix is encoded from its last max_length items, exactly. Items outside the catalogue have no row in a learned
table: they are left out of the prefix, for every network. A prefix of which nothing is left gets a zero
embedding, so that all items tie.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from alterrec_jax.contract import (
    PREFIX,
    Component,
    Context,
    ItemTables,
    Network,
    Params,
    SessionBatch,
    SessionEmbeddingsFn,
    make_item_tables,
)
from alterrec_jax.data.dataset import Sessions
from alterrec_jax.data.packing import (
    Chunks,
    Plan,
    cut_chunks,
    cut_prefixes,
    fill_rows,
    keep_ends,
    plan_rows,
    row_blocks,
)
from alterrec_jax.data.targets import Targets
from alterrec_jax.sharding import mesh

PREFIXES_AT_ONCE = 512
"""Of whole prefixes, how many a device encodes together: some networks make a row as long as any of each."""


class Prefixes(NamedTuple):
    """Sessions, and the prefixes of them that are wanted.

    Attributes:
      items: int32 [interactions], the sessions' items one after another.
      offsets: int64 [session + 1], where each begins.
      session: int64 [prefix], ascending.
      length: int64 [prefix], how many of the session's first items the prefix holds.
      users: int32 [session], whose each is, -1 where unknown; None where nobody asks.
    """

    items: np.ndarray
    offsets: np.ndarray
    session: np.ndarray
    length: np.ndarray
    users: np.ndarray | None = None


class PrefixEncoder:
    """Encodes prefixes with several components of one catalogue at once.

    Attributes:
      tables: float [item, dim] by component, the candidates, or `Neighbours`, made once, without dropout; on a mesh,
        rows of padding behind them.
      item_tables: the same with what the session encoders look up.
    """

    def __init__(
        self,
        components: Mapping[str, Component],
        params: Mapping[str, Params],
        context: Context,
        max_length: int,
        new_items: int = 0,
        items_at_once: int = 65_536,
        rows_at_once: int = 32,
    ):
        """Makes the tables.

        Args:
          components: by name.
          params: by name of the trained network.
          context: what is known of the items.
          max_length: of a prefix, the latest items that are seen.
          new_items: how many items' features stand behind the catalogue's.
          items_at_once: of whole sessions; bounds the memory that embeddings take.
          rows_at_once: packed rows that are encoded together, at most.
        """
        self._max_length, self._items_at_once, self._rows_at_once = max_length, items_at_once, rows_at_once
        everywhere = mesh.sharding(mesh.REPLICATED)  # so that every process can read what comes out
        self._params = {component.trained: params[component.trained] for component in components.values()}
        self._programs: dict[str, _Program] = {}
        for trained in self._params:
            of_trained = {name: part.network for name, part in components.items() if part.trained == trained}
            # Components that score parts of one session vector have one function of items, whose tables are made once.
            by_function = {network.item_tables: network for network in of_trained.values()}
            once = {f: make_item_tables(network, params[trained], context) for f, network in by_function.items()}
            made = {name: once[network.item_tables] for name, network in of_trained.items()}
            self._programs[trained] = _Program.of(of_trained, made, everywhere)
        found = {name: tables for program in self._programs.values() for name, tables in program.tables.items()}
        self.item_tables: dict[str, ItemTables] = {name: found[name] for name in components}
        self.tables = {name: tables.candidates for name, tables in self.item_tables.items()}
        networks = [component.network for component in components.values()]
        self._known = networks[0].catalogue_size + new_items
        self._whole = any(network.layout == PREFIX for network in networks)
        self._users = any(network.reads.users for network in networks)

    def __call__(self, sessions: Sessions, targets: Targets) -> Iterator[dict[str, Any]]:
        """Yields float32 [some targets, dim], or `ItemSums`, by component: of what stands before each target, in their
        order."""
        users = sessions.users if self._users else None
        length = targets.position.astype(np.int64)
        return self.encode(Prefixes(sessions.items, sessions.offsets, targets.session, length, users))

    def encode(self, prefixes: Prefixes) -> Iterator[dict[str, Any]]:
        """Yields float32 [some prefixes, dim], or `ItemSums`, by component, in the order of `prefixes`."""
        known = drop_unknown(prefixes, self._known)
        first, sessions = 0, len(known.offsets) - 1
        while first < sessions:
            fitting = np.searchsorted(known.offsets, known.offsets[first] + self._items_at_once, side="right") - 1
            last = max(first + 1, int(fitting))
            low, high = np.searchsorted(known.session, [first, last])
            if low < high:
                yield self._encode_sessions(known, first, last, slice(low, high))
            first = last

    def _encode_sessions(self, prefixes: Prefixes, first: int, last: int, wanted: slice) -> dict[str, Any]:
        """What `encode` yields of the `wanted` prefixes, which belong to sessions first .. last-1."""
        session, length = prefixes.session[wanted] - first, prefixes.length[wanted]
        begin = prefixes.offsets[first]  # numbers in rows have 32 bits, and count from here
        items, offsets = prefixes.items[begin:], prefixes.offsets[first : last + 1] - begin
        users = prefixes.users[first:last] if self._users and prefixes.users is not None else None
        if self._users and users is None:
            users = np.full(last - first, -1, np.int32)
        chunks = self._chunks(session, length, last - first)
        plan = plan_rows(chunks.stop - chunks.start, self._max_length)
        plan = plan._replace(rows=max(plan.rows, 1))  # an empty one tells how wide embeddings are
        # One embedding for each item of the sessions, that of the prefix which ends there; the last one stays zero.
        count = int(offsets[-1])
        out: dict[str, Any] = {}
        # One session, as in a request, is not made to wait for many empty rows; few shapes occur all the same.
        rows_at_once = min(self._rows_at_once, 1 << (plan.rows - 1).bit_length())
        rows_at_once = mesh.padded(rows_at_once, mesh.DATA)
        blocks = _blocks_of_few if self._whole else row_blocks
        for part, place in blocks(chunks, plan, rows_at_once):
            batch = fill_rows(items, offsets, part, place, self._max_length, users)
            batch = _ends_only(batch) if self._whole else batch
            interaction, wanted_here = batch.interaction, batch.is_target
            on_device = mesh.put(batch._replace(interaction=None), mesh.BATCH)
            found: dict[str, Any] = {}
            for trained, program in self._programs.items():
                found |= jax.tree.map(on_host, program.encode(self._params[trained], program.arrays, on_device))
            out = out or jax.tree.map(lambda part: np.zeros((count + 1, *part.shape[1:]), part.dtype), found)
            for all_of_them, some in zip(jax.tree.leaves(out), jax.tree.leaves(found), strict=True):
                all_of_them[interaction[wanted_here]] = some[wanted_here]
        pick = np.where(length > 0, offsets[session] + length - 1, count)
        return {name: jax.tree.map(lambda embeddings: embeddings[pick], out[name]) for name in self.item_tables}

    def _chunks(self, session: np.ndarray, length: np.ndarray, sessions: int) -> Chunks:
        """The chunks whose scored positions are all prefixes that are wanted, and those between them."""
        shortest = np.full(sessions, np.iinfo(np.int64).max)
        longest = np.zeros(sessions, np.int64)
        np.minimum.at(shortest, session, np.maximum(length, 1))
        np.maximum.at(longest, session, length)
        if self._whole:
            return cut_prefixes(shortest - 1, longest, self._max_length)
        return cut_chunks(shortest - 1, longest, self._max_length, stride=1)


class _Program(NamedTuple):
    """What encodes by the parameters of one trained network, for all components that take them.

    Attributes:
      arrays: those that the components' tables consist of, each once however many tables hold it: of arguments that
        are apart, XLA would compute the same twice.
      tables: by component.
      encode: a function of parameters, arrays and a batch: embeddings by component.
    """

    arrays: list[jax.Array]
    tables: dict[str, ItemTables]
    encode: Callable[[Params, list[jax.Array], SessionBatch], dict[str, Any]]

    @classmethod
    def of(cls, networks: Mapping[str, Network], made: Mapping[str, ItemTables], out: Any) -> "_Program":
        """Of networks and their tables, by component; `out` is how the embeddings lie."""
        arrays: list[jax.Array] = []

        def number(leaf: jax.Array) -> int:
            for at, known in enumerate(arrays):
                if known is leaf or (known.dtype == leaf.dtype and jnp.array_equal(known, leaf)):
                    return at
            arrays.append(leaf)
            return len(arrays) - 1

        numbers, structure = jax.tree.flatten({name: jax.tree.map(number, tables) for name, tables in made.items()})
        functions = tuple((name, network.session_embeddings) for name, network in networks.items())
        tables = jax.tree.unflatten(structure, [arrays[at] for at in numbers])
        return cls(arrays, tables, _encode(functions, tuple(numbers), structure, out))


@functools.lru_cache(maxsize=32)
def _encode(
    functions: tuple[tuple[str, SessionEmbeddingsFn], ...], numbers: tuple[int, ...], structure: Any, out: Any
) -> Callable[[Params, list[jax.Array], SessionBatch], dict[str, Any]]:
    """`_Program.encode`, kept: what validates after each epoch, by the same functions, would compile it anew each time.

    Args:
      functions: of sessions, by component.
      numbers, structure: which array each leaf of the components' tables is.
      out: how the embeddings lie.
    """

    def encode(params: Params, arrays: list[jax.Array], batch: SessionBatch) -> dict[str, Any]:
        tables = jax.tree.unflatten(structure, [arrays[at] for at in numbers])
        return {name: function(params, tables[name], batch) for name, function in functions}

    return jax.jit(encode, out_shardings=out)


def _blocks_of_few(chunks: Chunks, plan: Plan, rows: int) -> Iterator[tuple[Chunks, Plan]]:
    """As `row_blocks`, of chunks that are prefixes: half as many rows at once, and half of that again, where a device
    would get more than `PREFIXES_AT_ONCE`. One row is as little as it can be."""
    shards = mesh.size(mesh.DATA)
    fewer = mesh.padded(max(rows // 2, 1), mesh.DATA)
    for part, place in row_blocks(chunks, plan, rows):
        of_shards = np.bincount(place.row // (rows // shards), minlength=1)
        if of_shards.max() > PREFIXES_AT_ONCE and fewer < rows:
            yield from _blocks_of_few(part, place, fewer)
        else:
            yield part, place


def _ends_only(batch: SessionBatch) -> SessionBatch:
    """The batch in the layout `prefix`; how many prefixes it has is rounded up to a power of 2, so few shapes occur."""
    shards = mesh.size(mesh.DATA)
    of_shard = batch.is_target.reshape(shards, -1)
    most = int(of_shard.sum(axis=1).max())
    return keep_ends(batch, min(1 << max(most - 1, 0).bit_length(), of_shard.shape[1]), shards)


def on_host(embeddings: Any) -> np.ndarray:
    """As a NumPy array, whole numbers as they are, others as float32."""
    array = np.asarray(embeddings)
    return array if array.dtype.kind == "i" else np.asarray(array, np.float32)


def drop_unknown(prefixes: Prefixes, catalogue: int) -> Prefixes:
    """The same prefixes without the items that are not in the catalogue (item numbers from `catalogue` on)."""
    known = prefixes.items < catalogue
    if known.all():
        return prefixes
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(known)])
    start = prefixes.offsets[prefixes.session]
    return prefixes._replace(
        items=prefixes.items[known],
        offsets=before[prefixes.offsets],
        length=before[start + prefixes.length] - before[start],
    )
