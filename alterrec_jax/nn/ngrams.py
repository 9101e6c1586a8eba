"""Graphs of the n-grams of a session, windows of n consecutive items, by masks alone (MSGIFSR, section 4.1).

Every position holds the windows of 1 .. K items that end there, and a node stands where a window occurs first in its
segment. What the other positions compute, nobody reads. All lengths are computed together: axis `size` counts from 1.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from alterrec_jax.contract import SessionBatch
from alterrec_jax.nn.segments import same_segment
from alterrec_jax.numerics import precision_of


class NGramGraph(NamedTuple):
    """The windows of some batch, and edges between them, each once.

    Attributes:
      nodes: bool [row, size, position], where a window stands that did not before.
      short: bool [row, size, position], where a segment of fewer items ends: its only window repeats its last item.
      item_node: int32 [row, position], where a position's item stands first.
      edges: bool [row, kind, target position, source position]. A window leads to the next one of its size (kinds
        0 .. K-1), an item to the longer window that begins behind it (the K-1 kinds after these, by size), and such a
        window to the item behind it (the last K-1).
    """

    nodes: jax.Array
    short: jax.Array
    item_node: jax.Array
    edges: jax.Array


def ngram_graph(batch: SessionBatch, order: int) -> NGramGraph:
    """The graph of windows of 1 .. order items."""
    segment, length = same_segment(batch), batch.items.shape[1]
    items_equal = segment & (batch.items[:, :, None] == batch.items[:, None, :])
    equal = [items_equal]
    for _ in range(1, order):  # equal where the windows that are an item shorter were equal one position before
        equal.append(items_equal & _moved(_moved(equal[-1], 1), 1, axis=2))
    whole = jnp.stack([_whole(batch, size) for size in range(1, order + 2)], axis=1)
    followed, whole = whole[:, 1:], whole[:, :-1]  # where the window one position before is of the same segment
    is_end = (batch.segments >= 0) & (batch.segments != _moved(batch.segments, -1, fill=-1))
    short = is_end[:, None] & ~whole
    itself = jnp.eye(length, dtype=bool)[None, None]
    same = (jnp.stack(equal, axis=1) & whole[..., None] & whole[..., None, :]) | (itself & short[..., None])
    earlier = jnp.tril(jnp.ones((length, length), bool), -1)[None, None]
    nodes = (whole | short) & ~jnp.any(same & earlier, axis=3)

    before = _moved(same, 1, axis=2)
    behind = [_moved(same[:, :1], size, axis=2) for size in range(2, order + 1)]
    occurs = jnp.concatenate([before, *behind, before[:, 1:]], axis=1)
    occurs &= jnp.concatenate([followed, followed[:, 1:], followed[:, 1:]], axis=1)[..., None]
    found = jnp.einsum("rktp,rkps->rkts", targets_of_kinds(same).astype(jnp.float32), occurs.astype(jnp.float32)) > 0
    edges = found & targets_of_kinds(nodes)[..., None] & sources_of_kinds(nodes)[..., None, :]
    return NGramGraph(nodes, short, jnp.argmax(items_equal, axis=2), edges)


def targets_of_kinds(of_sizes: jax.Array, between: jax.Array | None = None, axis: int = 1) -> jax.Array:
    """What the targets of every kind of edge have, [row, kind, ...] from [row, size, ...].

    Args:
      of_sizes: what windows have.
      between: the same for edges between sizes, where that differs.
      axis: that of sizes.
    """
    items, longer = _items_and_longer(of_sizes if between is None else between, axis)
    return jnp.concatenate([of_sizes, longer, items], axis=axis)


def sources_of_kinds(of_sizes: jax.Array, between: jax.Array | None = None, axis: int = 1) -> jax.Array:
    """What the sources of every kind of edge have, as `targets_of_kinds`."""
    items, longer = _items_and_longer(of_sizes if between is None else between, axis)
    return jnp.concatenate([of_sizes, items, longer], axis=axis)


def _items_and_longer(of_sizes: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    items, longer = jnp.split(of_sizes, [1], axis=axis)
    return jnp.broadcast_to(items, longer.shape), longer


def _whole(batch: SessionBatch, size: int) -> jax.Array:
    """bool [row, position]: whether the `size` items up to a position are of one segment."""
    return (batch.segments >= 0) & (batch.segments == _moved(batch.segments, size - 1, fill=-1))


def _moved(values: jax.Array, steps: int, axis: int = 1, fill: int = 0) -> jax.Array:
    """What stood `steps` positions before; after, where `steps` is negative."""
    length = values.shape[axis]
    widths = [(0, 0)] * values.ndim
    widths[axis] = (max(steps, 0), max(-steps, 0))
    wide = jnp.pad(values, widths, constant_values=fill)
    return jax.lax.slice_in_dim(wide, max(-steps, 0), max(-steps, 0) + length, axis=axis)


class WindowEncoder(nn.Module):
    """The vector of a window: half the mean of its items, half what a GRU makes of them in their order.

    A window of one item is that item. Each size has a GRU of its own (PyTorch's: a bias on both sides). Sizes are
    computed together, from their last items backwards, so that all are at the same item.

    Attributes:
      dtype: of what products take.
    """

    dtype: str

    @nn.compact
    def __call__(self, inputs: jax.Array, short: jax.Array) -> jax.Array:
        """float32 [row, size, position, dim], the items as each size has them -> the same, of windows that end there.

        `short` is the graph's.
        """
        _, order, _, dim = inputs.shape
        if order == 1:
            return inputs
        weights = {name: self._weights(name, order - 1, dim) for name in ("input", "hidden")}
        longer, size = inputs[:, 1:], jnp.arange(2, order + 1)[None, :, None, None]

        def gates(name: str, values: jax.Array) -> jax.Array:
            kernel, bias = weights[name]
            pair = values.astype(self.dtype), kernel.astype(self.dtype)
            found = jnp.einsum(
                "rkpd,kdg->rkpg", *pair, precision=precision_of(self.dtype), preferred_element_type=jnp.float32
            )
            return found + bias[None, :, None]

        def back(values: jax.Array, steps: int) -> jax.Array:
            return jnp.where(short[:, 1:, :, None], values, _moved(values, steps, axis=2))

        of_items, hidden, total = gates("input", longer), jnp.zeros_like(longer), jnp.zeros_like(longer)
        for steps in reversed(range(order)):
            within = steps < size
            total += jnp.where(within, back(longer, steps), 0)
            reset, update, new = jnp.split(back(of_items, steps), 3, axis=-1)
            reset_h, update_h, new_h = jnp.split(gates("hidden", hidden), 3, axis=-1)
            new = jnp.tanh(new + jax.nn.sigmoid(reset + reset_h) * new_h)
            hidden = jnp.where(within, new + jax.nn.sigmoid(update + update_h) * (hidden - new), 0)
        return jnp.concatenate([inputs[:, :1], (total / size + hidden) / 2], axis=1)

    def _weights(self, name: str, sizes: int, dim: int) -> tuple[jax.Array, jax.Array]:
        start = nn.initializers.lecun_normal(batch_axis=0)
        kernel = self.param(f"{name}_kernel", start, (sizes, dim, 3 * dim))
        return kernel, self.param(f"{name}_bias", nn.initializers.zeros, (sizes, 3 * dim))
