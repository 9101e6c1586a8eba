"""Graph attention between the n-grams of a session: the layer of MSGIFSR (section 4.2), by masks."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from alterrec_jax.nn.ngrams import Edges, NGrams
from alterrec_jax.numerics import precision_of

_SLOPE = 0.2  # of LeakyReLU below 0


class NGramAttention(nn.Module):
    """Graph attention (GAT) along every kind of edge and, with other weights, against it.

    Head c of a kind of edge r gives the node i, with the sources j of its edges

        W_c (sum over j of a_ij x_j) + x_i + b_c,  a_i = softmax over j of leaky(l_c . W_c x_j + r_c . W_c x_i).

    A node's vector is the maximum over heads of the sum over kinds, each of which brings x_i, edges or not; and the mean
    of its length's input vectors in the segment. Edges within a length have weights of their own, all edges between
    lengths share some. As W_c comes behind the sum over j, and l_c . W_c and r_c . W_c are vectors, it is multiplied
    with once a node and set of weights.

    Attributes:
      heads: each as wide as the input.
      dropout: rate on what comes in, and on a.
      dtype: of what products take.
    """

    heads: int
    dropout: float
    dtype: str

    @nn.compact
    def __call__(
        self,
        inputs: Sequence[jax.Array],
        windows: Sequence[NGrams],
        edges: tuple[list[Edges], list[Edges]],
        segment: jax.Array,
        deterministic: bool,
    ) -> list[jax.Array]:
        """float32 [row, position, dim] a length, twice; `segment` is `same_segment` of the batch."""
        order = len(inputs)
        kernels: list[list[jax.Array]] = [[] for _ in range(order)]
        messages: list[list[jax.Array]] = [[] for _ in range(order)]
        residual = [jnp.zeros((1, 1, self.heads, inputs[0].shape[-1])) for _ in range(order)]
        for direction in ("along", "against"):
            dropped = [nn.Dropout(self.dropout)(of_length, deterministic=deterministic) for of_length in inputs]
            within, between = edges if direction == "along" else ([e.reversed for e in part] for part in edges)
            parts = {f"{direction}_{edge.target}": [edge] for edge in within}
            for name, kinds in {**parts, **({f"{direction}_between": between} if between else {})}.items():
                weights = self._weights(name, inputs[0].shape[-1])
                for target in sorted({edge.target for edge in kinds}):
                    into = [edge for edge in kinds if edge.target == target]
                    found = [self._messages(dropped, edge, weights, deterministic) for edge in into]
                    messages[target - 1].append(sum(found[1:], found[0]))
                    kernels[target - 1].append(weights[0])
                    bias = weights[3][None, None] + dropped[target - 1][:, :, None]
                    residual[target - 1] = residual[target - 1] + len(into) * bias
        return [
            self._joined(messages[n], kernels[n], residual[n]) + _mean(inputs[n], windows[n].nodes, segment)
            for n in range(order)
        ]

    def _weights(self, name: str, dim: int) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """W [head, dim, dim], l . W and r . W [dim, head], b [head, dim]."""
        vector = nn.initializers.normal(0.1)
        kernel = self.param(f"{name}_kernel", nn.initializers.lecun_normal(batch_axis=0), (self.heads, dim, dim))
        source = self.param(f"{name}_source", vector, (self.heads, dim))
        target = self.param(f"{name}_target", vector, (self.heads, dim))
        bias = self.param(f"{name}_bias", nn.initializers.zeros, (self.heads, dim))
        folded = [jnp.einsum("hde,he->dh", kernel, part, precision="highest") for part in (source, target)]
        return kernel, folded[0], folded[1], bias

    def _messages(
        self, inputs: Sequence[jax.Array], edges: Edges, weights: tuple[jax.Array, ...], deterministic: bool
    ) -> jax.Array:
        """float32 [row, head, target position, dim]: the sum of a_ij x_j."""
        of_source, of_target = inputs[edges.source - 1], inputs[edges.target - 1]
        from_source = jnp.einsum("rsd,dh->rhs", of_source, weights[1], precision="highest")
        from_target = jnp.einsum("rtd,dh->rht", of_target, weights[2], precision="highest")
        mask = edges.mask[:, None]
        logits = nn.leaky_relu(from_target[..., None] + from_source[:, :, None], _SLOPE)
        attention = jnp.where(mask, jax.nn.softmax(jnp.where(mask, logits, -1e9), axis=-1), 0)
        attention = nn.Dropout(self.dropout)(attention, deterministic=deterministic)
        return jnp.einsum("rhts,rsd->rhtd", attention, of_source, precision="highest")

    def _joined(self, messages: list[jax.Array], kernels: list[jax.Array], residual: jax.Array) -> jax.Array:
        """float32 [row, position, dim]: the maximum over heads of W times the messages, and the residual."""
        message, kernel = (jnp.concatenate(part, axis=axis).astype(self.dtype) for part, axis in ((messages, 3), (kernels, 1)))
        precision = precision_of(self.dtype)
        mapped = jnp.einsum("rhtd,hde->rthe", message, kernel, precision=precision, preferred_element_type=jnp.float32)
        return jnp.max(mapped + residual, axis=2)


def _mean(inputs: jax.Array, nodes: jax.Array, segment: jax.Array) -> jax.Array:
    """float32 [row, position, dim]: the mean over the nodes of a position's segment."""
    counted = (segment & nodes[:, None, :]).astype(jnp.float32)
    counted /= jnp.maximum(jnp.sum(counted, axis=2, keepdims=True), 1)
    return jnp.einsum("rqk,rkd->rqd", counted, inputs, precision="highest")
