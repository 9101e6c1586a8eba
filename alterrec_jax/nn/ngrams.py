"""Graphs of the n-grams of a session, windows of n consecutive items, by masks alone (MSGIFSR, section 4.1).

Every position holds the window of n items that ends there, and a node stands where its window occurs first in the
segment. What the other positions compute, nobody reads.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from alterrec_jax.contract import SessionBatch
from alterrec_jax.nn.segments import same_segment
from alterrec_jax.numerics import layer_precision


class NGrams(NamedTuple):
    """The windows of one length.

    Attributes:
      same: bool [row, position, position], whether two positions of a segment hold equal windows.
      nodes: bool [row, position], the first of each.
      short: bool [row, position], where a segment of fewer items ends: its only window repeats its last item.
    """

    same: jax.Array
    nodes: jax.Array
    short: jax.Array


class Edges(NamedTuple):
    """Edges of one kind.

    Attributes:
      target, source: the lengths of the windows that they lead to and come from.
      mask: bool [row, target position, source position], between nodes; each edge once.
    """

    target: int
    source: int
    mask: jax.Array

    @property
    def reversed(self) -> "Edges":
        """The same edges the other way round."""
        return Edges(self.source, self.target, jnp.swapaxes(self.mask, 1, 2))


def ngrams(batch: SessionBatch, order: int) -> list[NGrams]:
    """The windows of 1 .. order items."""
    segment, length = same_segment(batch), batch.items.shape[1]
    equal = items_equal = segment & (batch.items[:, :, None] == batch.items[:, None, :])
    earlier, itself = jnp.tril(jnp.ones((length, length), bool), -1)[None], jnp.eye(length, dtype=bool)[None]
    is_end = (batch.segments >= 0) & (batch.segments != _moved(batch.segments, -1, fill=-1))
    found = []
    for size in range(1, order + 1):
        if size > 1:  # equal where the windows that are one item shorter were equal one position before
            equal = items_equal & _moved(_moved(equal, 1), 1, axis=2)
        whole = _whole(batch, size)
        short = is_end & ~whole
        same = (equal & whole[:, :, None] & whole[:, None, :]) | (itself & short[:, :, None])
        nodes = (whole | short) & ~jnp.any(same & earlier, axis=2)
        found.append(NGrams(same, nodes, short))
    return found


def ngram_edges(batch: SessionBatch, windows: list[NGrams]) -> tuple[list[Edges], list[Edges]]:
    """Edges between equal lengths and between different ones.

    A window leads to the next one of its length, an item to the longer window that begins behind it, and such a window
    to the item behind it.
    """
    within, between = [], []
    for size in range(1, len(windows) + 1):
        followed = _whole(batch, size + 1)  # there, the window one position before is of the same segment
        within.append(_edges(windows, size, size, 1, followed))
        if size > 1:
            between.append(_edges(windows, size, 1, size, followed))
            between.append(_edges(windows, 1, size, 1, followed))
    return within, between


def _edges(windows: list[NGrams], target: int, source: int, step: int, where: jax.Array) -> Edges:
    """From the window that ends `step` positions before to the one that ends where `where` holds."""
    to, of = windows[target - 1], windows[source - 1]
    before = _moved(of.same, step) & where[:, :, None]  # [row, position of an occurrence, source position]
    found = jnp.einsum("rtp,rps->rts", to.same.astype(jnp.float32), before.astype(jnp.float32)) > 0
    return Edges(target, source, found & to.nodes[:, :, None] & of.nodes[:, None, :])


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
    """The vector of a window: half the mean of its items, half what a GRU makes of them in their order (eqs. 1-3).

    Attributes:
      size: items of a window; that of one is the item.
      dtype: of what products take.
    """

    size: int
    dtype: str

    @nn.compact
    def __call__(self, inputs: jax.Array, windows: NGrams) -> jax.Array:
        """float32 [row, position, dim] -> float32 [row, position, dim], of the window that ends there."""
        if self.size == 1:
            return inputs
        dim, exact = inputs.shape[-1], layer_precision(self.dtype)
        of_items = nn.Dense(3 * dim, name="input_gates", **exact)(inputs).astype(jnp.float32)
        of_hidden = nn.Dense(3 * dim, name="hidden_gates", **exact)

        def item(values: jax.Array, number: int) -> jax.Array:
            return jnp.where(windows.short[..., None], values, _moved(values, self.size - 1 - number))

        hidden = total = jnp.zeros_like(inputs)
        for number in range(self.size):
            total += item(inputs, number)
            reset, update, new = jnp.split(item(of_items, number), 3, axis=-1)
            reset_h, update_h, new_h = jnp.split(of_hidden(hidden).astype(jnp.float32), 3, axis=-1)
            new = jnp.tanh(new + jax.nn.sigmoid(reset + reset_h) * new_h)
            hidden = new + jax.nn.sigmoid(update + update_h) * (hidden - new)
        return (total / self.size + hidden) / 2
