"""Graph attention between the n-grams of a session: the layer of MSGIFSR (section 4.2), by masks."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from alterrec_jax.nn.ngrams import NGramGraph, sources_of_kinds, targets_of_kinds
from alterrec_jax.numerics import precision_of

_SLOPE = 0.2  # of LeakyReLU below 0


class NGramAttention(nn.Module):
    """Graph attention (GAT) along every kind of edge and, with other weights, against it.

    Head c of a kind of edge gives the node i, with the sources j of its edges,

        W_c (sum over j of a_ij x_j) + x_i + b_c,  a_i = softmax over j of leaky(l_c . W_c x_j + r_c . W_c x_i).

    A node's vector is the maximum over heads of the sum over kinds, each of which brings x_i, edges or not; and the
    mean of its size's input vectors in the segment. Edges within a size have weights of their own, all edges between
    sizes share theirs. W_c comes behind the sum over j, and l_c . W_c and r_c . W_c are vectors, so a node
    is multiplied with W_c once for each set of weights.

    Attributes:
      heads: each as wide as the input.
      dropout: rate on what comes in, and on a.
      dtype: of what products take.
    """

    heads: int
    dropout: float
    dtype: str

    @nn.compact
    def __call__(self, inputs: jax.Array, graph: NGramGraph, segment: jax.Array, deterministic: bool) -> jax.Array:
        """float32 [row, size, position, dim] twice; `segment` is `same_segment` of the batch.

        In the einsums, r is the row, z the direction, k the size or the kind of edge, h the head, t and s positions.
        """
        order, dim = inputs.shape[1], inputs.shape[-1]
        longer = order - 1
        both = jnp.broadcast_to(inputs[:, None], (inputs.shape[0], 2, *inputs.shape[1:]))
        dropped = nn.Dropout(self.dropout)(both, deterministic=deterministic)
        kernel, source, target, bias = self._weights("within", (2, order), dim)
        of_source = _exact("rzksd,zkdh->rzkhs", dropped, source)
        of_target = _exact("rzktd,zkdh->rzkht", dropped, target)
        kinds = jnp.ones(1)  # of edges that lead to each size
        if longer:
            between, source, target, of_between = self._weights("between", (2,), dim)
            of_source = sources_of_kinds(of_source, _exact("rzksd,zdh->rzkhs", dropped, source), axis=2)
            of_target = targets_of_kinds(of_target, _exact("rzktd,zdh->rzkht", dropped, target), axis=2)
            others = jnp.array([longer, *[1] * longer])
            kinds, bias = 1 + others, bias + others[None, :, None, None] * of_between[:, None]
        sources, edges = sources_of_kinds(dropped, axis=2), graph.edges
        # Against an edge its source is the target, and what led from items leads to them.
        split = jnp.split(jnp.swapaxes(edges, 2, 3), [order, order + longer], axis=1)
        mask = jnp.stack([edges, jnp.concatenate([split[0], split[2], split[1]], axis=1)], axis=1)[:, :, :, None]
        logits = nn.leaky_relu(of_target[..., None] + of_source[..., None, :], _SLOPE)
        weights = jnp.where(mask, jax.nn.softmax(jnp.where(mask, logits, -1e9), axis=-1), 0)
        weights = nn.Dropout(self.dropout)(weights, deterministic=deterministic)

        last = order + longer  # behind it, the kinds that lead to items, which share weights and are summed at once
        messages = _exact("rzkhts,rzksd->rzkhtd", weights[:, :, :last], sources[:, :, :last])
        mapped = self._mapped("rzkhtd,zkhde->rkthe", messages[:, :, :order], kernel)
        if longer:
            to_items = _exact("rzkhts,rzksd->rzhtd", weights[:, :, last:], sources[:, :, last:])
            messages = jnp.concatenate([to_items[:, :, None], messages[:, :, order:]], axis=2)
            mapped += self._mapped("rzkhtd,zhde->rkthe", messages, between)
        residual = kinds[None, :, None, None] * jnp.sum(dropped, axis=1)
        spread = mapped + residual[..., None, :] + jnp.sum(bias, axis=0)[None, :, None]
        return _largest(spread, axis=3) + _mean(inputs, graph.nodes, segment)

    def _weights(self, name: str, shape: tuple[int, ...], dim: int) -> tuple[jax.Array, ...]:
        """W [..., head, dim, dim], l . W and r . W [..., dim, head], b [..., head, dim]."""
        start = nn.initializers.normal(0.1)
        kernel = self.param(f"{name}_kernel", start, (*shape, self.heads, dim, dim))
        parts = [self.param(f"{name}_{part}", start, (*shape, self.heads, dim)) for part in ("source", "target")]
        source, target = (_exact("...hde,...he->...dh", kernel, part) for part in parts)
        return kernel, source, target, self.param(f"{name}_bias", nn.initializers.zeros, (*shape, self.heads, dim))

    def _mapped(self, subscripts: str, messages: jax.Array, kernel: jax.Array) -> jax.Array:
        pair = messages.astype(self.dtype), kernel.astype(self.dtype)
        return jnp.einsum(subscripts, *pair, precision=precision_of(self.dtype), preferred_element_type=jnp.float32)


def _exact(subscripts: str, *arrays: jax.Array) -> jax.Array:
    return jnp.einsum(subscripts, *arrays, precision="highest")


def _largest(values: jax.Array, axis: int) -> jax.Array:
    """The maximum, whose gradient goes to one of the largest, as in PyTorch.

    That of `jnp.max` is divided by how many equal the maximum, which are none where XLA computes both sides and rounds
    them differently.
    """
    which = jnp.argmax(values, axis=axis, keepdims=True)
    place = jax.lax.broadcasted_iota(which.dtype, values.shape, axis)
    return jnp.sum(jnp.where(place == which, values, 0), axis=axis)


def _mean(inputs: jax.Array, nodes: jax.Array, segment: jax.Array) -> jax.Array:
    """float32 [row, size, position, dim]: the mean over the nodes of a position's segment."""
    counted = (segment[:, None] & nodes[:, :, None]).astype(jnp.float32)
    counted /= jnp.maximum(jnp.sum(counted, axis=3, keepdims=True), 1)
    return _exact("rkts,rksd->rktd", counted, inputs)
