"""Peers of an item: the other items of the catalogue that have its value of an attribute, of one category, say.

No list of them is stored. Items that are sorted by their value stand next to their peers, so that two numbers tell
where these are. Items whose value is unknown, 0, have none.

With h_i the row of an item and N some of its peers, their weighed mean is (MGS, Lai et al., 2022)

    m_i = sum over j in N of a_j h_j,  a = softmax over j in N of LeakyReLU(w_0 . h_i + w_1 . h_j)

and h_i itself where it has no peers.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from alterrec_jax.nn.gnn import SLOPE
from alterrec_jax.sharding.lookup import lookup

_UNKNOWN = 0


class PeerOrder(NamedTuple):
    """Items sorted by value, those of one value in random order.

    Attributes:
      items: int32 [item], their numbers.
      first: int32 [item], of each item, where those of its value begin in `items`.
      size: int32 [item], how many have its value, itself among them; 1 where it is unknown.
      position: int32 [item], where it stands itself.
    """

    items: jax.Array
    first: jax.Array
    size: jax.Array
    position: jax.Array


def shuffled_peers(key: jax.Array, values: jax.Array) -> PeerOrder:
    """A new order, from int32 [item], the number of each item's value; 0 is unknown."""
    items = jnp.lexsort((jax.random.permutation(key, len(values)), values)).astype(jnp.int32)
    by_value = values[items]
    first, stop = (jnp.searchsorted(by_value, values, side).astype(jnp.int32) for side in ("left", "right"))
    position = jnp.zeros_like(items).at[items].set(jnp.arange(len(items), dtype=jnp.int32))
    return PeerOrder(items, first, jnp.where(values == _UNKNOWN, 1, stop - first), position)


def drawn_peers(order: PeerOrder, items: jax.Array, most: int) -> tuple[jax.Array, jax.Array]:
    """A random choice of each item's peers, without replacement: those that come behind it in the order, as in a ring.

    Args:
      order: of `shuffled_peers`. Items of one order are not drawn for independently of each other.
      items: int32 [...], the numbers of some items.
      most: how many are drawn; all where there are no more.

    Returns:
      int32 [..., most], their numbers, and bool [..., most], which of them there are.
    """
    first, size, position = (part[items][..., None] for part in (order.first, order.size, order.position))
    ahead = jnp.arange(1, most + 1, dtype=jnp.int32).reshape(*(1,) * items.ndim, -1)
    return order.items[first + (position - first + ahead) % size], ahead < size


def means_of_drawn_peers(
    table: jax.Array,
    items: jax.Array,
    rows: jax.Array,
    weights: jax.Array,
    orders: tuple[PeerOrder, PeerOrder],
    most: int,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """m, float32 [row, position, dim]: of one draw of peers, of the other, and of both together.

    Args:
      table: float32 [item, dim].
      items, rows: int32 [row, position], float32 [row, position, dim], items of a batch and their rows of the table.
      weights: float32 [2, dim], w.
      orders: what peers are drawn from.
      most: how many in a draw, at most.
    """
    draws = [drawn_peers(order, items, most) for order in orders]
    peers, there = (jnp.stack(part, axis=2) for part in zip(*draws, strict=True))  # [row, position, draw, peer]
    of_peers = lookup(table, peers)
    own = jnp.einsum("rpd,d->rp", rows, weights[0], precision="highest")
    logits = own[..., None, None] + jnp.einsum("rpsjd,d->rpsj", of_peers, weights[1], precision="highest")
    logits = jnp.where(there, nn.leaky_relu(logits, SLOPE), -1e9)
    found = jnp.einsum("rpsj,rpsjd->rpsd", nn.softmax(logits, axis=-1), of_peers, precision="highest")
    one, other = jnp.moveaxis(jnp.where(there[..., :1], found, rows[:, :, None]), 2, 0)
    # A softmax over both draws gives each the share that its sum has.
    sums = jax.nn.logsumexp(logits, axis=-1)
    share = nn.sigmoid(sums[..., 0] - sums[..., 1])[..., None]
    return one, other, share * one + (1 - share) * other


class _Sums(NamedTuple):
    """Of a softmax over peers that come one block after another: the largest logit, float32 [item], and, divided by its
    exponential, the sum of those of all, float32 [item], and of their rows, float32 [item, dim]."""

    largest: jax.Array
    total: jax.Array
    rows: jax.Array


class _Block(NamedTuple):
    """Items: their values and numbers, int32 [item], rows, float32 [item, dim], and w . h, float32 [item] each."""

    values: jax.Array
    numbers: jax.Array
    rows: jax.Array
    as_item: jax.Array
    as_peer: jax.Array


def mean_of_all_peers(values: jax.Array, rows: jax.Array, weights: jax.Array, block: int = 1024) -> jax.Array:
    """m, float32 [item, dim], of all peers.

    Items are sorted by value and meet each other a block at a time; blocks without a common value do not.

    Args:
      values: int32 [item], the number of each item's value; 0 is unknown.
      rows: float32 [item, dim].
      weights: float32 [2, dim], w.
      block: how many items meet as many others at a time.
    """
    count = len(values)
    block = min(block, count)
    order, missing = jnp.argsort(values), -count % block

    def in_blocks(array: jax.Array, filled: int = 0) -> jax.Array:
        widths = ((0, missing), *((0, 0),) * (array.ndim - 1))
        return jnp.pad(array[order], widths, constant_values=filled).reshape(-1, block, *array.shape[1:])

    products = jnp.matmul(rows, weights.T, precision="highest")
    blocks = _Block(
        in_blocks(values, filled=jnp.iinfo(values.dtype).max),
        jnp.arange(count + missing).reshape(-1, block),
        *map(in_blocks, (rows, products[:, 0], products[:, 1])),
    )

    def of_block(some: _Block) -> jax.Array:
        def add(sums: _Sums, others: _Block) -> tuple[_Sums, None]:
            overlap = (others.values[0] <= some.values[-1]) & (some.values[0] <= others.values[-1])
            return jax.lax.cond(overlap, _add_peers, lambda sums, *_: sums, sums, some, others), None

        nothing = _Sums(jnp.full(block, -1e30), jnp.zeros(block), jnp.zeros_like(some.rows))
        sums, _ = jax.lax.scan(add, nothing, blocks)
        has_peers = sums.total > 0
        return jnp.where(has_peers[:, None], sums.rows / jnp.where(has_peers, sums.total, 1)[:, None], some.rows)

    found = jax.lax.map(of_block, blocks)
    return jnp.zeros_like(rows).at[order].set(found.reshape(-1, rows.shape[1])[:count])


def _add_peers(sums: _Sums, some: _Block, others: _Block) -> _Sums:
    """The sums of some items, after those of others that are peers of theirs."""
    peers = (some.values[:, None] == others.values[None]) & (some.numbers[:, None] != others.numbers[None])
    logits = nn.leaky_relu(some.as_item[:, None] + others.as_peer[None], SLOPE)
    logits = jnp.where(peers & (some.values != _UNKNOWN)[:, None], logits, -jnp.inf)
    largest = jax.lax.stop_gradient(jnp.maximum(sums.largest, jnp.max(logits, axis=1)))
    kept, added = jnp.exp(sums.largest - largest), jnp.exp(logits - largest[:, None])
    rows = jnp.matmul(added, others.rows, precision="highest")
    return _Sums(largest, kept * sums.total + jnp.sum(added, axis=1), kept[:, None] * sums.rows + rows)
